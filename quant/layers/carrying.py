"""What a layer has besides its tensors and a quantized one in its place takes over: hooks and attributes."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

#: Of `nn.Module`, each a mapping but for the last.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
#: Attributes that every layer of a class of torch has.
_USUAL: dict[type[nn.Module], frozenset[str]] = {
    nn.Linear: frozenset(vars(nn.Linear(1, 1, device="meta"))),
    nn.modules.conv._ConvNd: frozenset(vars(nn.Conv1d(1, 1, 1, device="meta"))),
}
_PLAIN = (int, float, str, bool, type(None))


def attributes(layer: nn.Module) -> dict[str, object]:
    """What was put onto a layer beyond what every one of its class of torch has."""
    usual = next((usual for cls, usual in _USUAL.items() if isinstance(layer, cls)), _USUAL[nn.Linear])
    return {key: value for key, value in vars(layer).items() if key not in usual}


def is_carried(key: str, value: object) -> bool:
    """Whether `carry_over` takes an attribute over: plain values, and what a library keeps for itself, by its name."""
    return key.startswith("_") or is_plain(value)


def is_plain(value: object) -> bool:
    """Whether a value is a number, a word, a flag, None, or a tuple of such."""
    return all(map(is_plain, value)) if type(value) is tuple else isinstance(value, _PLAIN)


def carry_over(linear: nn.Module, layer: nn.Module, memo: dict[int, Any]) -> None:
    """Gives `layer` a copy of what was put onto `linear`, hooks in their order.

    Args:
        memo: of the `copy.deepcopy` that copies the model around them, so that hooks' objects are copied once.
    """
    for name in _HOOKS:
        setattr(layer, name, copy.deepcopy(getattr(linear, name), memo))
    for key, value in attributes(linear).items():
        if key not in vars(layer) and is_carried(key, value):
            setattr(layer, key, copy.deepcopy(value, memo))
