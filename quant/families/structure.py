"""What a model's modules show of its blocks and of what its layers are for, where no family lists it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from torch import nn

from quant.families.base import ATTENTION, FEED_FORWARD, MODULATION, ROLES

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: The parts of a U-Net in the order in which data passes; its middle is one block and not a list.
_DOWN_MID_UP = ("down_blocks", "mid_block", "up_blocks")

# Searched for in the class of a module that holds layers, in its own name, and in a layer's name.
_CLASSES = (
    (MODULATION, re.compile(r"Norm|Modulation|^Ada")),
    (FEED_FORWARD, re.compile(r"FeedForward|Mlp|MLP|FFN|FF$|DenseActDense|GatedActDense")),
    (ATTENTION, re.compile(r"^(?!.*Block).*(Attention|Attn)\d*$")),
)
_NAMES = (
    (MODULATION, re.compile(r"modulation|ada_?ln|(^|_)mod$|(^|_)norm(_|\d|$)", re.IGNORECASE)),
    (FEED_FORWARD, re.compile(r"(^|_)(ffn?|mlp|feed_forward)(_|\d|$)", re.IGNORECASE)),
    (ATTENTION, re.compile(r"(^|_)attn(_|\d|$)|(^|_|self|cross)attention$", re.IGNORECASE)),
)
_LAYER_NAMES = (
    (MODULATION, re.compile(r"modulation|ada_?ln|^time_emb_proj$", re.IGNORECASE)),
    (FEED_FORWARD, re.compile(r"(^|_)(ffn?|mlp)\d*$")),
)


def down_mid_up(model: nn.Module) -> tuple[str, ...]:
    """The blocks of a U-Net, or of an autoencoder built as one, in the order in which data passes.

    Returns:
        "down_blocks.0.", "down_blocks.1.", "mid_block.", "up_blocks.0." and so on, an encoder's before a decoder's;
        nothing where there are no such lists.
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    lists: list[str] = []
    for name, module in model.named_modules():
        parent, _, leaf = name.rpartition(".")
        if leaf in _DOWN_MID_UP and not _below(name, lists):
            listed = isinstance(module, nn.ModuleList | nn.Sequential)
            found[parent][leaf] = [f"{name}.{child}." for child in module._modules] if listed else [f"{name}."]
            lists.append(name)
    if not any({"down_blocks", "up_blocks"} & set(parts) for parts in found.values()):
        return ()
    return tuple(block for parts in found.values() for part in _DOWN_MID_UP for block in parts.get(part, ()))


def repeated_lists(model: nn.Module) -> list[str]:
    """Names of the outermost lists that have two or more modules of one class with layers inside.

    A list of bare layers, such as the steps of a feed-forward network, is none.
    """
    lists: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and name and not _below(name, lists):
            children = [child for child in module if not isinstance(child, _LAYERS) and _holds_layers(child)]
            if any(count > 1 for count in Counter(map(type, children)).values()):
                lists.append(name)
    return lists


def role_patterns(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """`Family.roles` from the classes and names of a model's modules; the innermost that shows a role counts."""
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, role in _roles(model):
        found[-name.count("."), role].append(re.escape(name))
    innermost_first = sorted(found, key=lambda key: (key[0], ROLES.index(key[1])))
    return tuple((role, rf"^(?:{'|'.join(found[depth, role])})(?:\.|$)") for depth, role in innermost_first)


def _roles(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Every module or layer that shows a role, by its dotted name."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        leaf = name.rpartition(".")[2]
        role = None
        if isinstance(module, _LAYERS):
            role = _first(_LAYER_NAMES, leaf)
            if role is None and leaf == "proj_out" and f"{name[: -len(leaf)]}proj_mlp" in modules:
                role = FEED_FORWARD  # takes what attention and feed-forward network gave in parallel as one
        elif name and _holds_layers(module):
            role = _first(_CLASSES, type(module).__name__) or _first(_NAMES, leaf)
        if role is not None:
            yield name, role


def _first(patterns: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str | None:
    return next((role for role, pattern in patterns if pattern.search(text)), None)


def _holds_layers(module: nn.Module) -> bool:
    return any(isinstance(each, _LAYERS) for each in module.modules())


def _below(name: str, lists: Iterable[str]) -> bool:
    return any(name.startswith(f"{outer}.") for outer in lists)
