"""The kinds of layers whose weights are quantized: the one list of them, and what it finds in a model."""

from __future__ import annotations

from torch import nn

from quant.layers.conv_kind import ConvKind
from quant.layers.layer_kind import LayerKind
from quant.layers.linear_kind import LinearKind

KINDS: tuple[LayerKind, ...] = (LinearKind(), ConvKind())


def kind_of(module: nn.Module) -> LayerKind | None:
    """Return the kind of a module; None where it is none whose weight is quantized."""
    return next((kind for kind in KINDS if kind.holds(module)), None)


def quantizable(model: nn.Module) -> dict[str, tuple[LayerKind, nn.Module]]:
    """Return every layer of one of the kinds, by each of its names; quantized ones are not among them."""
    found = ((name, kind_of(module), module) for name, module in model.named_modules(remove_duplicate=False))
    return {name: (kind, module) for name, kind, module in found if kind is not None}


def class_names() -> frozenset[str]:
    """Names of the classes of layers that a recipe may target in models which have none of them."""
    return frozenset(name for kind in KINDS for name in kind.classes)


def in_groups(model: nn.Module) -> list[str]:
    """Names of the layers that the groups of a checkpoint's config are about: all but convolutions."""
    return [name for name, (kind, _) in quantizable(model).items() if kind.in_groups]


def weight_readers(model: nn.Module) -> dict[int, str]:
    """Parameters that modules of no kind hold, such as embeddings: by identity, the first module's name."""
    found: dict[int, str] = {}
    for name, module in model.named_modules():
        if kind_of(module) is None:
            for parameter in module._parameters.values():
                if parameter is not None:
                    found.setdefault(id(parameter), name or type(module).__name__)
    return found
