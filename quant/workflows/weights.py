"""The tensors of a component to be quantized, each made when it is asked for.

Straight from the files where nothing has to run: then one tensor is in memory at a time, however large the model is.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from quant.checkpoint.reader import StoredTensor, read_tensor, stored_tensors
from quant.checkpoint.shards import DTYPE_NAMES, TensorPlan
from quant.errors import CheckpointError, ModelError

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}


def of_model(model: nn.Module) -> dict[str, TensorPlan]:
    """The tensors that a loaded model holds."""
    return {
        name: TensorPlan(tensor.dtype, tuple(tensor.shape), partial(torch.Tensor.detach, tensor))
        for name, tensor in model.state_dict().items()
    }


def of_files(skeleton: nn.Module, folder: Path, dtype: torch.dtype) -> dict[str, TensorPlan]:
    """The tensors that diffusers would load for `skeleton` from a component's folder.

    Args:
        skeleton: the model on the meta device.
        folder: with safetensors; pickles are not read.
        dtype: of all floating tensors but those that the class keeps in float32.

    Raises:
        ModelError: a file or tensor that is missing, damaged, or of another shape; when a tensor is made, one that
            is not finite.
    """
    try:
        stored = stored_tensors(folder)
    except CheckpointError as error:
        raise ModelError(str(error)) from None
    plans = {}
    for name, empty in skeleton.state_dict().items():
        if name not in stored:
            raise ModelError(f"{folder}: has no tensor '{name}', which {type(skeleton).__name__} needs")
        if stored[name].shape != tuple(empty.shape):
            raise ModelError(
                f"{stored[name].file}: tensor '{name}' is {list(stored[name].shape)}, "
                f"{type(skeleton).__name__} needs {list(empty.shape)}"
            )
        if stored[name].dtype not in _DTYPES:
            raise ModelError(f"{stored[name].file}: tensor '{name}' is {stored[name].dtype}, which is not read here")
        target = _target_dtype(skeleton, name, _DTYPES[stored[name].dtype], dtype)
        plans[name] = TensorPlan(target, tuple(empty.shape), partial(_read, name, stored[name], target))
    return plans


def check_finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, if it has no NaN and no Inf. Raises ModelError otherwise."""
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        bad = "NaN" if torch.isnan(tensor).any() else "Inf"
        raise ModelError(f"{name}: holds {bad}; the model's file is damaged or its training diverged")
    return tensor


def check_finite_model(model: nn.Module, where: str) -> None:
    """Raises ModelError for the first parameter that is not finite, or that its file did not have."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:  # diffusers only logs a tensor that is missing
            raise ModelError(f"{where}.{name}: the model's file has no such tensor; is it another model's?")
        check_finite(f"{where}.{name}", parameter)


def _target_dtype(model: nn.Module, name: str, stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """As diffusers' `from_pretrained` decides it."""
    if not stored.is_floating_point:
        return stored
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    return torch.float32 if any(part in name.split(".") for part in kept) else dtype


def _read(name: str, stored: StoredTensor, dtype: torch.dtype) -> torch.Tensor:
    return check_finite(f"{stored.file}: tensor '{name}'", read_tensor(name, stored).to(dtype))
