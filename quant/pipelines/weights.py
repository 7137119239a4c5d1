"""The tensors of a component to be quantized, each made when it is asked for.

Straight from the files where nothing has to run: then one tensor is in memory at a time, however large the model is.
Either way the files are looked at first: a loader leaves what it does not know, such as the scales of FP8 codes,
and takes the codes for weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from quant.checkpoint.reader import StoredTensor, stored_tensors
from quant.checkpoint.shards import DTYPES, TensorPlan
from quant.errors import CheckpointError, ModelError, QuantWarning
from quant.formats.checks import not_finite
from quant.layers.fitting import unknown, unused_of
from quant.layers.kept_in_float32 import kept_in_float32
from quant.pipelines.inputs.layer_codes import REMEDY
from quant.pipelines.inputs.tensors import SourceTensor, as_stored
from quant.pipelines.skeleton import skeleton

#: How other tools name what they store of a quantized layer besides its codes, and whole files' marks.
_SIGNS = {
    "scale_weight": "ComfyUI's scaled FP8",
    "scale_input": "ComfyUI's scaled FP8",
    "scaled_fp8": "ComfyUI's scaled FP8",
    "comfy_quant": "ComfyUI",
    "weight_scale": "FP8 or INT8 codes",
    "weight_scale_inv": "FP8 codes by block",
    "weight_scale_2": "FP4 codes",
    "input_scale": "FP8 or INT8 codes",
    "weight_packed": "packed codes",
    "weight_shape": "packed codes",
    "weight_zero_point": "packed codes",
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "scales": "GPTQ or AWQ",
    "g_idx": "GPTQ",
    "absmax": "bitsandbytes",
    "quant_map": "bitsandbytes",
    "zero_point": "SDNQ",
    "scale": "SDNQ",
    "pre_quant_scale": "ModelOpt",
}
#: Those of them that models have for norms of their own, next to no weight, or next to one of 16 bits and more.
_OF_MODELS = ("scale", "scales", "zero_point")
#: Weights that only unpickling, which runs code, would read.
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_NOT_FINITE = "the model's file is damaged or its training diverged"


def of_model(model: nn.Module) -> dict[str, TensorPlan]:
    """The tensors that a loaded model holds."""
    return {
        name: TensorPlan(tensor.dtype, tuple(tensor.shape), partial(_part, tensor.detach()))
        for name, tensor in model.state_dict().items()
    }


def source_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Headers of all tensors of a component's folder. Raises ModelError: none, or a damaged file."""
    if not any(folder.glob("*.safetensors")) and any(path.suffix in PICKLES for path in folder.iterdir()):
        raise ModelError(f"{folder}: has pickled weights only, which are not read; save it as safetensors first")
    try:
        return stored_tensors(folder)
    except CheckpointError as error:
        raise ModelError(str(error)) from None


def check_source(model: nn.Module, tensors: Mapping[str, SourceTensor]) -> None:
    """Refuses files that hold something else than a model's weights, whichever way they will be loaded.

    Args:
        model: of the files' class, which may be on the meta device.
        tensors: what the files hold.

    Raises:
        ModelError: a tensor that the model has not and that its class does not leave by intent, such as the scale of
            FP8 codes; whole numbers in the place of floats; a dtype that is not read here.
    """
    needed, kind = model.state_dict(), type(model).__name__
    for name in sorted(unknown(tensors, needed, unused_of(model)), key=lambda name: (_sign(name) is None, name)):
        sign = _sign(name)
        what = f": it belongs to quantized weights ({sign}); {REMEDY}" if sign else "; is it another model's?"
        raise ModelError(f"{tensors[name].file}: holds '{name}', which {kind} has not{what}")
    for name, empty in needed.items():
        if name not in tensors:
            continue
        found = tensors[name]
        if found.dtype not in DTYPES:
            raise ModelError(f"{found.file}: tensor '{name}' is {found.dtype}, which is not read here")
        if empty.is_floating_point() and not DTYPES[found.dtype].is_floating_point:
            raise ModelError(
                f"{found.file}: tensor '{name}' is {found.dtype}, {kind} has a float there: codes of quantized weights "
                f"without a config that says so; {REMEDY}"
            )
    warn_of_fp8({name: tensors[name] for name in needed if name in tensors})


def warn_of_fp8(tensors: Mapping[str, SourceTensor]) -> None:
    """Warns of FP8 tensors that have no scales."""
    short = [name for name, tensor in tensors.items() if tensor.dtype.startswith("F8_")]
    if short:
        warnings.warn(
            f"{tensors[short[0]].file}: {len(short)} tensors are {tensors[short[0]].dtype} without scales, such as "
            f"'{short[0]}'; they are read as the weights themselves, at that precision",
            QuantWarning,
            stacklevel=3,
        )


def check_files(component: Path) -> None:
    """The same of a component that diffusers will load itself, which would take codes for weights and leave scales."""
    stored = source_tensors(component)
    check_source(skeleton(component, stored), as_stored(stored))


def _sign(name: str) -> str | None:
    """Whose quantized weights a tensor belongs to, by its name; None where it says nothing."""
    return _SIGNS.get(name.rpartition(".")[2])


def plans_of(
    skeleton: nn.Module,
    where: Path,
    tensors: Mapping[str, SourceTensor],
    dtype: torch.dtype,
    tied: Collection[str] = (),
) -> dict[str, TensorPlan]:
    """The tensors of a model, as diffusers would load them.

    Args:
        skeleton: the model on the meta device.
        where: its files, for errors.
        tensors: what they hold, by the model's names.
        dtype: of all floating tensors but those that the class keeps in float32.
        tied: names that files may lack, for the tensor is another's, too.

    Raises:
        ModelError: a file or tensor that is missing, damaged, or of another shape; when a tensor is made, one that
            is not finite.
    """
    check_source(skeleton, tensors)
    plans = {}
    for name, empty in skeleton.state_dict().items():
        if name not in tensors and name in tied:
            continue
        if name not in tensors:
            raise ModelError(f"{where}: has no tensor '{name}', which {type(skeleton).__name__} needs")
        if tensors[name].shape != tuple(empty.shape):
            raise ModelError(
                f"{tensors[name].file}: tensor '{name}' is {list(tensors[name].shape)}, "
                f"{type(skeleton).__name__} needs {list(empty.shape)}"
            )
        plans[name] = plan_of(name, tensors[name], target_dtype(skeleton, name, DTYPES[tensors[name].dtype], dtype))
    return plans


def plan_of(name: str, tensor: SourceTensor, dtype: torch.dtype) -> TensorPlan:
    """The plan of a tensor that is to be of another dtype; checking its rows raises ModelError."""
    check = partial(_check_rows, name, tensor, dtype)
    return TensorPlan(dtype, tensor.shape, partial(_read, tensor, dtype), check, tensor.coded)


def refuse_codes(tensors: Mapping[str, SourceTensor]) -> None:
    """Raises ModelError for the first tensor whose name says that it belongs to quantized weights."""
    for name, tensor in tensors.items():
        sign = _sign(name)
        path, _, leaf = name.rpartition(".")
        weight = tensors.get(f"{path}.weight")
        dtype = None if weight is None else DTYPES.get(weight.dtype, torch.uint8)
        if leaf in _OF_MODELS and (dtype is None or dtype.itemsize > 1):
            continue
        if sign is not None:
            raise ModelError(f"{tensor.file}: holds '{name}', which belongs to quantized weights ({sign}); {REMEDY}")


def check_finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, if it has no NaN and no Inf. Raises ModelError otherwise."""
    wrong = not_finite(tensor)
    if wrong is not None:
        raise ModelError(f"{name}: {wrong}; {_NOT_FINITE}")
    return tensor


def check_finite_model(model: nn.Module, where: str) -> None:
    """Raises ModelError for the first parameter that is not finite, or that its file did not have."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:  # diffusers only logs a tensor that is missing
            raise ModelError(f"{where}.{name}: the model's file has no such tensor; is it another model's?")
        check_finite(f"{where}.{name}", parameter)


def target_dtype(model: nn.Module, name: str, stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """As diffusers' `from_pretrained` decides it."""
    if not stored.is_floating_point:
        return stored
    return torch.float32 if any(part in name.split(".") for part in kept_in_float32(model)) else dtype


def _part(tensor: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    return tensor[start:stop] if tensor.ndim else tensor


def _read(tensor: SourceTensor, dtype: torch.dtype, start: int, stop: int) -> torch.Tensor:
    return tensor.rows(start, stop).to(dtype)


def _check_rows(name: str, tensor: SourceTensor, dtype: torch.dtype, made: torch.Tensor, start: int) -> None:
    wrong = not_finite(made, start)
    if wrong is None:
        return
    where = f"{tensor.file}: tensor '{name}'"
    read = tensor.rows(start, start + (len(made) if made.ndim else 1))
    # Codes of 8 bits say nothing of themselves; they widen to what they are.
    if not_finite(read) is None and read.itemsize > 1:
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(f"{where}: holds {float(read.abs().max()):.3g}, which {kind} does not; use another --dtype")
    raise ModelError(f"{where}: {wrong}; {_NOT_FINITE}")
