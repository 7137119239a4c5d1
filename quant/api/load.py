"""`quant.load`: a checkpoint folder becomes a model that runs, once all that can be checked of it was checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.api.load_transformers import transformers_model
from quant.api.loading import loading
from quant.api.record import Record, attach
from quant.checkpoint.config import CONFIG_KEY, stored_dtype
from quant.checkpoint.digests import check_config
from quant.checkpoint.exports.table import stored_layers
from quant.checkpoint.reader import (
    StoredTensor,
    component_folders,
    most_stored,
    read_config,
    read_tensor,
    stored_tensors,
)
from quant.checkpoint.shards import WEIGHTS, write_index
from quant.checkpoint.verifying import Verification, find_manifest
from quant.devices import find_device, one_thread_each, worker_threads
from quant.errors import CheckpointError, ModelError
from quant.families.fusing import block_module, fuse, wants_fusing, with_fusing
from quant.layers.fitting import Shaped, check_fit, expected_tensors, shapes_of, unused_of, value_fault
from quant.layers.kinds import in_groups
from quant.layers.layer import QuantLayer
from quant.layers.replace import insert_empty_layers, prepack
from quant.pipelines.skeleton import in_our_words, model_class, skeleton, transformers_class
from quant.pipelines.transformers_names import held_by_others


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
            the checkpoint is no diffusers or transformers model's. It keeps its own weights until all of the checkpoint
            was read and found right: on the meta device it has none, and memory is needed once.
        dtype: of everything that is not packed; as stored by default.
        device: where tensors are put; full-precision weights of packed layers are never made.
        check_files: compare every file with its SHA-256 in the manifest, while it is read. Where there is no
            manifest, as `quant inspect` says, there is only what files of tensors say of their headers and of
            config.json. What tensors hold is checked either way.
        fused: make the model's blocks into blocks of fused ops: fewer, larger ones, whose results differ by rounding.
            Such a model takes no LoRA, hooks or attention processors, and saved again it asks to be loaded fused.
            None does as the checkpoint's config says, which is no unless it has `"fused": true`.

    Returns:
        `into`, or a new model of diffusers or transformers, in eval mode.

    Raises:
        QuantError: a device that is not here.
        CheckpointError: names the file or tensor that is missing, damaged or of another model.
        ModelError: `into` is needed, diffusers has no such class, or the model cannot be fused.
    """
    where = find_device(device)
    path = _component(Path(folder), component)
    manifest = find_manifest(path)
    verification = Verification(manifest if check_files else None)
    with verification.around():
        config = read_config(path)
        quantization = config[CONFIG_KEY]
        wanted = wants_fusing(quantization, str(path / "config.json")) if fused is None else fused
        if into is not None:
            if wanted:
                block_module(into)  # refuses before anything is read
            model = _fill(into, path, quantization, dtype, where, check_files, verification)
        elif transformers_class(config) is not None:
            model = transformers_model(path, config, dtype, where, fused=wanted, check_files=check_files)
        else:
            model = _diffusers_model(path, config, dtype, where, fused=wanted, check_files=check_files)
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
    path: Path,
    config: Mapping[str, Any],
    dtype: torch.dtype | None,
    device: torch.device,
    *,
    fused: bool,
    check_files: bool,
) -> nn.Module:
    from quant.api.hf_quantizer import register

    register()
    # Headers first, because diffusers would only log a tensor that is missing, or fail in words of its own.
    tensors = stored_tensors(path)
    empty = skeleton(path, tensors)
    if fused:
        block_module(empty)
    where = str(path / "config.json")
    layers = stored_layers(config[CONFIG_KEY], in_groups(empty), where)
    expected = expected_tensors(empty, layers)
    check_fit(path, expected, tensors, unused_of(empty))
    if check_files:
        check_config(path, {tensor.file for tensor in tensors.values()})
    if dtype is None and stored_dtype(config[CONFIG_KEY], where) is None:
        dtype = most_stored(tensors[name] for name, (packed, _) in expected.items() if packed is None)
    with loading(path), _as_diffusers_names(path, tensors) as folder, in_our_words(f"{path}: diffusers cannot load it"):
        model = model_class(path).from_pretrained(folder, dtype=dtype, device_map={"": str(device)})
    assert isinstance(model, nn.Module)
    model.register_to_config(_name_or_path=str(path))  # type: ignore[operator]
    return model.eval()


@contextmanager
def _as_diffusers_names(path: Path, tensors: Mapping[str, StoredTensor]) -> Iterator[Path]:
    """A folder in which diffusers finds the very files that were checked: `path`, or links to a variant's files."""
    files = {tensor.file for tensor in tensors.values()}
    single = path / f"{WEIGHTS}.safetensors"
    if files == {single} or (path / f"{WEIGHTS}.safetensors.index.json").is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="quant-load-") as made:
        folder = Path(made)
        (folder / "config.json").symlink_to((path / "config.json").absolute())
        if len(files) == 1:
            (folder / single.name).symlink_to(next(iter(files)).absolute())
        else:
            for file in files:
                (folder / file.name).symlink_to(file.absolute())
            write_index(folder, {name: tensor.file.name for name, tensor in tensors.items()})
        yield folder


def _fill(
    model: nn.Module,
    path: Path,
    config: Mapping[str, Any],
    dtype: torch.dtype | None,
    device: torch.device,
    check_files: bool,
    verification: Verification,
) -> nn.Module:
    """Packed layers and all other tensors of the checkpoint, put into `model` in place, once all of it is right."""
    layers = stored_layers(config, in_groups(model), str(path / "config.json"))
    tensors = stored_tensors(path)
    elsewhere = held_by_others(model, tensors)
    expected = {name: spec for name, spec in expected_tensors(model, layers).items() if name not in elsewhere}
    check_fit(path, expected, tensors, unused_of(model))
    if check_files:
        check_config(path, {tensor.file for tensor in tensors.values()})
    taken = {name: tensor for name, tensor in tensors.items() if name in expected}
    read = _read(taken, shapes_of(model, layers), path, device)
    verification.finish()  # before anything is changed
    insert_empty_layers(model, layers)
    for name in taken:
        _put(model, name, read.pop(name), dtype)
    if elsewhere:
        model.tie_weights()  # type: ignore[operator]
    empty = next((name for name, buffer in model.named_buffers() if buffer.is_meta), None)
    if empty is not None:
        raise ModelError(f"buffer '{empty}' is no part of a checkpoint: make the module on a real device, not on meta")
    prepack(model)
    return model.eval()


def _read(
    tensors: Mapping[str, StoredTensor], layers: Mapping[str, Shaped], where: Path, device: torch.device
) -> dict[str, torch.Tensor]:
    """All tensors, on `device`, by a thread for each core. Raises CheckpointError for what no layer can run with."""

    def one(name: str) -> torch.Tensor:
        tensor = read_tensor(name, tensors[name])
        wrong = value_fault(name, tensor, layers)
        if wrong is not None:
            raise CheckpointError(f"{where}: tensor '{name}' {wrong}")
        return tensor.to(device)

    with one_thread_each(), ThreadPoolExecutor(worker_threads()) as threads:
        return dict(zip(tensors, threads.map(one, tensors), strict=True))


def _put(model: nn.Module, name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    held = owner.held().get(leaf) if isinstance(owner, QuantLayer) else None
    packed = isinstance(owner, QuantLayer) and held is not None and not owner.follows_dtype(leaf)
    wanted = tensor.dtype
    if packed and held is not None:
        wanted = held.dtype  # scales in 16 bits become float32, which is exact
    elif dtype is not None and tensor.is_floating_point():
        wanted = dtype
    placed = tensor.to(wanted)
    if leaf in owner._buffers:
        owner._buffers[leaf] = placed
    else:
        current = owner._parameters[leaf]
        owner._parameters[leaf] = nn.Parameter(placed, requires_grad=current is not None and current.requires_grad)
