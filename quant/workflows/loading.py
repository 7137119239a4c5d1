"""`quant.load`: a checkpoint folder becomes a model that runs, checked against its manifest first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.checkpoint.config import CONFIG_KEY, stored_layers
from quant.checkpoint.reader import (
    StoredTensor,
    component_folders,
    find_manifest,
    read_config,
    read_tensors,
    stored_tensors,
    verify,
)
from quant.checkpoint.shards import DTYPE_NAMES
from quant.errors import CheckpointError, ModelError
from quant.form import LayerForm, misfit
from quant.modules.linear import QuantLinear
from quant.modules.replace import insert_empty_layers, linears, prepack
from quant.packing.linear import TensorForm, tensor_layout
from quant.workflows.fusing import block_module, fuse, wants_fusing, with_fusing
from quant.workflows.record import Record, attach
from quant.workflows.skeleton import model_class, skeleton


def load(
    folder: str | Path,
    *,
    component: str | None = None,
    into: nn.Module | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    check_files: bool = True,
    fused: bool | None = None,
) -> nn.Module:
    """The quantized model of a checkpoint.

    Args:
        folder: what `quant.calibrate` or `quant.save` made, or one component of it.
        component: which one, where there are several, such as "transformer_2".
        into: a module of the checkpoint's shape, whose Linears are replaced by packed layers in place; needed where
            the checkpoint is not a diffusers model's. It may be on the meta device.
        dtype: of everything that is not packed; as stored by default.
        device: where tensors are put; full-precision weights of packed layers are never made.
        check_files: compare every file with its SHA-256 in the manifest first (about a second a GB).
        fused: make the model's blocks into blocks of fused ops: fewer, larger ones, whose results differ by rounding.
            Such a model takes no LoRA, hooks or attention processors, and saved again it asks to be loaded fused.
            None does as the checkpoint's config says, which is no unless it has `"fused": true`.

    Returns:
        `into`, or a new diffusers model, in eval mode.

    Raises:
        CheckpointError: names the file or tensor that is missing, damaged or of another model.
        ModelError: `into` is needed, diffusers has no such class, or the model cannot be fused.
    """
    path = _component(Path(folder), component)
    manifest = verify(path) if check_files else find_manifest(path)
    config = read_config(path)
    quantization = config[CONFIG_KEY]
    wanted = wants_fusing(quantization, str(path / "config.json")) if fused is None else fused
    if into is not None:
        if wanted:
            block_module(into)  # refuses before anything is read
        model = _fill(into, path, quantization, dtype, torch.device(device))
    else:
        model = _diffusers_model(path, config, dtype, device, fused=wanted)
    if wanted:
        fuse(model)
    made, layers = ({}, []) if manifest is None else (manifest.provenance, manifest.layers)
    attach(model, Record(with_fusing(quantization, wanted), made, layers))
    return model


def _component(folder: Path, component: str | None) -> Path:
    found = component_folders(folder)
    if component is None:
        if len(found) > 1:
            raise CheckpointError(f"{folder}: holds {', '.join(found)}; name one with component=")
        return next(iter(found.values()))
    if component not in found:
        raise CheckpointError(f"{folder}: has no quantized component '{component}', only {', '.join(found) or 'one'}")
    return found[component]


def _diffusers_model(
    path: Path, config: Mapping[str, Any], dtype: torch.dtype | None, device: str | torch.device, *, fused: bool
) -> nn.Module:
    from quant.workflows.hf_quantizer import register, unfused

    register()
    # First, because diffusers would only log a tensor that is missing, or fail in words of its own.
    empty = skeleton(path)
    if fused:
        block_module(empty)
    layers = stored_layers(config[CONFIG_KEY], linears(empty), str(path / "config.json"))
    _check_fit(path, _expected(empty, layers), stored_tensors(path))
    with unfused():  # `load` does it, for every way of loading
        model = model_class(path).from_pretrained(path, dtype=dtype, device_map={"": str(device)})
    assert isinstance(model, nn.Module)
    return model.eval()


def _fill(
    model: nn.Module, path: Path, config: Mapping[str, Any], dtype: torch.dtype | None, device: torch.device
) -> nn.Module:
    """Packed layers and all other tensors of the checkpoint, put into `model` in place, once all of it fits."""
    layers = stored_layers(config, linears(model), str(path / "config.json"))
    tensors = stored_tensors(path)
    _check_fit(path, _expected(model, layers), tensors)
    insert_empty_layers(model, layers)
    for name, tensor in read_tensors(tensors):
        _put(model, name, tensor, dtype, device)
    empty = next((name for name, buffer in model.named_buffers() if buffer.is_meta), None)
    if empty is not None:
        raise ModelError(f"buffer '{empty}' is no part of a checkpoint: make the module on a real device, not on meta")
    prepack(model)
    return model.eval()


def _expected(model: nn.Module, layers: Mapping[str, LayerForm]) -> dict[str, TensorForm]:
    """Every tensor that a checkpoint of `model` with these packed layers has."""
    forms: dict[str, TensorForm] = {name: (None, tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    for name, layer in layers.items():
        n, k = forms.pop(f"{name}.weight")[1]
        reason = misfit(layer, n, k)
        if reason is not None:
            raise CheckpointError(f"layer '{name}' [{n}, {k}]: {reason}; is it another model's checkpoint?")
        packed = tensor_layout(layer, n, k)
        forms.update({f"{name}.{leaf}": form for leaf, form in packed.items()})
    return forms


def _check_fit(path: Path, expected: Mapping[str, TensorForm], stored: Mapping[str, StoredTensor]) -> None:
    for name, (dtype, shape) in expected.items():
        if name not in stored:
            raise CheckpointError(f"{path}: has no tensor '{name}', which the model needs; is it another model's?")
        found = stored[name]
        if found.shape != shape:
            raise CheckpointError(
                f"{found.file}: tensor '{name}' is {list(found.shape)}, the model needs {list(shape)}"
            )
        if dtype is not None and found.dtype != DTYPE_NAMES[dtype]:
            raise CheckpointError(
                f"{found.file}: tensor '{name}' is {found.dtype}, its scheme needs {DTYPE_NAMES[dtype]}"
            )
    extra = min(set(stored) - set(expected), default=None)
    if extra is not None:
        raise CheckpointError(f"{path}: holds a tensor '{extra}' that the model has not; is it another model's?")


def _put(model: nn.Module, name: str, tensor: torch.Tensor, dtype: torch.dtype | None, device: torch.device) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    packed = isinstance(owner, QuantLinear) and leaf in owner._buffers and not owner.follows_dtype(leaf)
    cast = dtype is not None and not packed and tensor.is_floating_point()
    placed = tensor.to(device=device, dtype=dtype if cast else tensor.dtype)
    if leaf in owner._buffers:
        owner._buffers[leaf] = placed
    else:
        current = owner._parameters[leaf]
        owner._parameters[leaf] = nn.Parameter(placed, requires_grad=current is not None and current.requires_grad)
