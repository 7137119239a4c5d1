"""What a checkpoint of this library means, read by `quant.load`, in its authors' names."""

from __future__ import annotations

from pathlib import Path

import torch

import quant
from quant.formats.tensors import unpack_linear
from quant.layers.replace import quantized_layers
from tests.pipelines.inputs.test_original import Tensors, wan


def converted(model: Path, scheme: str) -> Path:
    """A checkpoint of one scheme next to a model, made once."""
    out = model.parent / f"converted-{scheme}"
    if not out.exists():
        quant.convert(model, out, scheme=scheme, progress=False)
    return out


def stored(checkpoint: Path) -> tuple[Tensors, dict[str, Tensors]]:
    """Every tensor as it is meant, weights of quantized layers in float32; and what those layers are stored as."""
    model = quant.load(checkpoint)
    layers = {name: dict(layer.state_dict()) for name, layer in quantized_layers(model).items()}
    meant = {
        f"{name}.weight": unpack_linear(layers[name], layer.layer_format)
        for name, layer in quantized_layers(model).items()
    }
    rest = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.endswith(".bias") or name.rpartition(".")[0] not in layers
    }
    return meant | rest, layers


def in_authors_names(tensors: Tensors) -> Tensors:
    return wan(tensors)


def is_same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.dtype == wanted.dtype and torch.equal(found, wanted)
