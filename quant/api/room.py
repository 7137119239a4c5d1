"""How many bytes a calibration will write, and whether the disk has room for them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from quant.calibration.layer_plan import LayerPlan, layer_plan, planned
from quant.calibration.passes import kept_bytes
from quant.checkpoint.folder import OutputFolder
from quant.errors import CheckpointError
from quant.files.places import reason
from quant.formats.tensors import tensor_layout
from quant.pipelines.weights import target_dtype
from quant.recipe import Recipe


def check_room(
    folder: OutputFolder,
    models: Mapping[str, nn.Module],
    recipe: Recipe,
    dtype: torch.dtype,
    copied: Iterable[Path],
    *,
    journal: bool = True,
) -> None:
    """Refuses a disk that is too small, before any work.

    Args:
        folder: to be made; what a killed run has left there counts as room.
        models: components by name; on the meta device is enough.
        recipe: what becomes of their layers.
        dtype: of everything that is not packed.
        copied: files that are copied as they are.
        journal: are statistics written while they are gathered?

    Raises:
        CheckpointError: with both figures; or what cannot be measured.
    """
    plans = {name: layer_plan(model, recipe, name) for name, model in models.items()}
    stored = sum(_stored_bytes(model, plans[name], dtype) for name, model in models.items())
    try:
        needed = stored + sum(path.stat().st_size for path in copied) + kept_bytes(plans, recipe, journal=journal)
        disk = shutil.disk_usage(folder.place.parent)
        there = sum(path.stat().st_size for path in folder.hidden.rglob("*") if path.is_file())
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder.out}: cannot be read: {reason(error)}") from None
    if disk.total and needed > disk.free + there:
        raise CheckpointError(
            f"{folder.out}: needs {_amount(needed)} while it is made, and {_amount(disk.free)} are free on its file "
            "system; make room or choose another --out"
        )


def _stored_bytes(model: nn.Module, layers: list[LayerPlan], dtype: torch.dtype) -> int:
    """What a component's tensors take in the checkpoint, without factors and branches."""
    quantized = {f"{layer.name}.weight": layer for layer in planned(layers)}
    total = 0
    for key, tensor in model.state_dict().items():
        layer = quantized.get(key)
        if layer is None:
            total += tensor.numel() * target_dtype(model, key, tensor.dtype, dtype).itemsize
        else:
            layout = tensor_layout(layer.layer_format, layer.shape[0], layer.shape[1])
            total += sum(math.prod(shape) * (own or dtype).itemsize for own, shape in layout.values())
    return total


def _amount(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
