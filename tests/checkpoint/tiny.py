"""A small component on disk, written as the library writes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.exports.table import build_config
from quant.checkpoint.shards import Part, TensorPlan, copied
from quant.checkpoint.streaming import write_shards
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear

RECIPE = {"name": "tiny", "sha256": "0" * 64}


class Tiny(nn.Module):
    """Two blocks of two Linears each, and one Linear outside that is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24)) for _ in range(2))
        self.proj_out = nn.Linear(24, 8)


LAYERS = ("blocks.0.0", "blocks.0.2", "blocks.1.0", "blocks.1.2")
KEPT = ("proj_out",)


def tiny(seed: int = 0) -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tiny().requires_grad_(False)


def parts(tensors: Mapping[str, torch.Tensor]) -> list[Part]:
    """What makes tensors that exist already."""
    return [copied(name, tensor_plan(tensor)) for name, tensor in tensors.items()]


def tensor_plan(tensor: torch.Tensor) -> TensorPlan:
    """A plan whose rows are those of a tensor."""
    return TensorPlan(
        tensor.dtype, tuple(tensor.shape), lambda start, stop: tensor[start:stop] if tensor.ndim else tensor
    )


def tiny_tensors(schemes: Mapping[str, str], smoothed: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The tensors of a quantized `Tiny`, layer -> scheme's name."""
    model = tiny()
    tensors = dict(model.state_dict())
    for i, (name, scheme) in enumerate(schemes.items()):
        weight = tensors[f"{name}.weight"]
        static = SCHEMES[scheme].has_static_input
        packed = pack_linear(
            weight,
            LayerFormat(SCHEMES[scheme]),
            input_scale=torch.tensor([0.01 * (i + 1)]) if static else None,
            pre_quant_scale=torch.linspace(0.5, 2, weight.shape[1]) if name in smoothed else None,
        )
        tensors.update({f"{name}.{key}": value for key, value in packed.items()})
    return tensors


def tiny_config(schemes: Mapping[str, str], smoothed: tuple[str, ...] = ()) -> dict[str, Any]:
    layers = {name: LayerFormat(SCHEMES[scheme], name in smoothed) for name, scheme in schemes.items()}
    kept = [name for name in (*LAYERS, *KEPT) if name not in schemes]
    return build_config(layers, kept, "float32", RECIPE)


def write_tiny(folder: Path, schemes: Mapping[str, str], *, max_bytes: int = 10**9) -> dict[str, torch.Tensor]:
    """Writes a component and returns what it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": "Tiny", CONFIG_KEY: tiny_config(schemes)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = tiny_tensors(schemes)
    write_shards(folder, parts(tensors), max_bytes=max_bytes)
    return tensors
