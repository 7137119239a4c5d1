"""Puts quantized layers into a model, and names those in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from quant.formats.layer import LayerFormat
from quant.layers.kinds import quantizable
from quant.layers.layer import QuantLayer
from quant.layers.t5_feed_forward import call_wo

#: Modules of PyTorch's that may read their layers' weights and call none: the class, what its fast path asks for first,
#: and the value with which it takes the other one.
_FAST_PATHS: tuple[tuple[type[nn.Module], str, int | bool], ...] = (
    (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
    (nn.TransformerEncoder, "use_nested_tensor", False),
)


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Every quantized layer of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


def prepack(model: nn.Module) -> None:
    """Puts each quantized weight into the order that its device's kernels read; after tensors were put in by hand."""
    for layer in quantized_layers(model).values():
        layer.prepack()


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule `name`."""
    path, _, leaf = name.rpartition(".")
    parent = model.get_submodule(path)
    setattr(parent, leaf, module)
    for above in (model, *(model.get_submodule(path[:end]) for end in _ends(path))):
        call_layers(above)


def call_layers(parent: nn.Module) -> None:
    """Has a module call its quantized layers, whose weights it would read instead: PyTorch's transformers, and T5's."""
    call_wo(parent)
    for kind, switch, off in _FAST_PATHS:
        if isinstance(parent, kind) and getattr(parent, switch, None) and quantized_layers(parent):
            setattr(parent, switch, off)


@contextmanager
def replaced(model: nn.Module, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """The model with some of its submodules replaced, until the context is left."""
    originals = {name: model.get_submodule(name) for name in modules}
    classes = [(part, type(part)) for part in model.modules()]
    switches = [
        (part, switch, getattr(part, switch))
        for part in model.modules()
        for kind, switch, _ in _FAST_PATHS
        if isinstance(part, kind) and hasattr(part, switch)
    ]
    try:
        for name, module in modules.items():
            replace(model, name, module)
        yield
    finally:
        for name, module in originals.items():
            replace(model, name, module)
        for part, kept in classes:
            if type(part) is not kept:
                part.__class__ = kept
        for part, switch, value in switches:
            setattr(part, switch, value)


def _ends(path: str) -> list[int]:
    """Where the names of a dotted path end, the outermost first."""
    return [i for i, letter in enumerate(path + ".") if letter == "." and i]


def insert_empty_layers(model: nn.Module, layers: Mapping[str, LayerFormat]) -> None:
    """Replaces layers by empty quantized ones on the meta device: a skeleton that tensors are loaded into."""
    found = quantizable(model)
    for name, layer_format in layers.items():
        kind, module = found[name]
        replace(model, name, kind.empty(module, layer_format))
