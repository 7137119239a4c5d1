"""Reads a component's config and tensors; what is broken is named by file. Nothing is unpickled."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from quant.checkpoint.config import quantization_of
from quant.checkpoint.digests import check_header
from quant.checkpoint.exports.table import export_of, quant_methods
from quant.checkpoint.shards import DTYPES, WEIGHTS
from quant.errors import CheckpointError
from quant.files.json_files import read_object
from quant.files.model_paths import about_config, no_folder
from quant.files.places import reason
from quant.text import cut, first_line, shown

#: The files that loaders look for first: diffusers' own names, the index of shards before the single file.
_INDEX, _SINGLE = f"{WEIGHTS}.safetensors.index.json", f"{WEIGHTS}.safetensors"
#: Names of indexes and of files of tensors, those of variants such as fp16 among them.
_INDEXES, _SINGLES = ("*.safetensors.index.json", "*.safetensors.index.*.json"), ("*.safetensors",)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is and what its header says.

    Attributes:
        file: in safetensors.
        dtype: its name there, such as "F8_E4M3".
        shape: of the tensor.
        offset: of its first byte, from the file's start.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0


def component_folders(folder: Path) -> dict[str, Path]:
    """The quantized components of a checkpoint by name; "" for a folder that is itself one.

    Raises:
        CheckpointError: there is none; says what the path is instead.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: {no_folder(folder) or 'no such checkpoint folder'}")
    config = folder / "config.json"
    if config.is_file() and quantization_of(read_object(config), str(config)) is not None:
        return {"": folder}
    # Another library's components, such as a text encoder in bitsandbytes' format, are that library's to load.
    methods = {}
    for path in sorted(folder.glob("*/config.json")):
        found = quantization_of(read_object(path), str(path))
        if found is not None:
            methods[path.parent.name] = found.get("quant_method")
    ours = {name: folder / name for name, method in methods.items() if method in quant_methods()}
    if ours:
        return ours
    if methods:
        name, method = next(iter(methods.items()))
        raise CheckpointError(
            f"{folder}: '{name}' is quantized by {shown(method)}, which quant does not read; load the folder with "
            "diffusers' from_pretrained and that library installed"
        )
    what = about_config(read_object(config)) if config.is_file() else None
    raise CheckpointError(
        f"{folder}: {what or ''}{'; it ' if what else ''}holds no quantized component "
        "(a config.json with 'quantization_config')"
    )


def read_config(component: Path) -> dict[str, Any]:
    """A component's config.json, with a quantization_config this release reads.

    Raises:
        CheckpointError: missing, damaged, not ours, or of an unknown version.
    """
    path = component / "config.json"
    body = read_object(path)
    quantization = quantization_of(body, str(path))
    if quantization is None:
        raise CheckpointError(f"{path}: has no 'quantization_config'; the component is not quantized")
    export_of(quantization, str(path))
    return body


def weight_files(component: Path) -> list[Path]:
    """All indexes and files of tensors in a component's folder, whether or not a loader would take them."""
    return sorted(path for pattern in (*_INDEXES, *_SINGLES) for path in component.glob(pattern))


def stored_tensors(component: Path) -> dict[str, StoredTensor]:
    """Headers of all tensors of a component, in the files that diffusers would take; no tensor is read.

    Raises:
        CheckpointError: a shard is missing or truncated, or the index disagrees with the shards.
    """
    found = survey(component)
    if found.faults:
        raise CheckpointError(found.faults[0])
    return found.tensors


@dataclass(frozen=True)
class Survey:
    """What the files of a component say that diffusers would take, as far as they can be read.

    Attributes:
        files: those of tensors, the missing ones too.
        sound: those whose headers can be read.
        tensors: of the sound files.
        faults: everything that is wrong, what was found first in front.
    """

    files: tuple[Path, ...]
    sound: tuple[Path, ...]
    tensors: dict[str, StoredTensor]
    faults: tuple[str, ...]


def survey(component: Path) -> Survey:
    """The headers of a component's tensors, and all that is wrong with files, headers and index."""
    index, single = _main_file(component)
    listed: dict[str, str] | None = None
    if index is not None:
        try:
            listed = _weight_map(index)
        except CheckpointError as error:
            return Survey((), (), {}, (str(error),))
        files = tuple(component / name for name in sorted(set(listed.values())))
    elif single is not None:
        files = (single,)
    else:
        count = len(list(component.glob(_SINGLES[0])))
        return Survey((), (), {}, (f"{component}: {count} .safetensors files and no index; expected one",))
    found, sound, faults = _sound_headers(files)
    if listed is not None:
        read = {path.name for path in sound}
        faults += [
            f"{tensor.file}: holds tensor '{name}', which {index} does not list for it"
            for name, tensor in found.items()
            if listed.get(name) != tensor.file.name
        ]
        faults += [
            f"{index}: lists tensor '{cut(name, 200)}', which its file does not hold"
            for name in sorted(set(listed) - set(found))
            if listed[name] in read
        ]
    return Survey(files, tuple(sound), found, tuple(faults))


def survey_all(component: Path) -> Survey:
    """As `survey`, of every file of tensors in a folder, whichever a loader takes; two may hold the same tensor."""
    files = tuple(sorted(component.glob(_SINGLES[0])))
    found, sound, faults = {}, [], []
    for path in files:
        try:
            found.update(headers([path]))
            sound.append(path)
        except CheckpointError as error:
            faults.append(str(error))
    for index in sorted(path for pattern in _INDEXES for path in component.glob(pattern)):
        try:
            missing = sorted({name for name in _weight_map(index).values() if not (component / name).is_file()})
            faults += [f"{component / name}: missing; the checkpoint is incomplete" for name in missing]
        except CheckpointError as error:
            faults.append(str(error))
    return Survey(files, tuple(sound), found, tuple(faults))


def _weight_map(index: Path) -> dict[str, str]:
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or any(Path(str(f)).name != f for f in listed.values()):
        raise CheckpointError(f"{index}: damaged: weight_map must name files of its own folder")
    return listed


def _sound_headers(files: Iterable[Path]) -> tuple[dict[str, StoredTensor], list[Path], list[str]]:
    """Tensors of the files that can be read, those files, and what is wrong with the others."""
    found: dict[str, StoredTensor] = {}
    sound, faults = [], []
    for path in files:
        try:
            for name, tensor in headers([path]).items():
                if found.setdefault(name, tensor) is not tensor:
                    faults.append(_twice(path, name, found[name].file))
        except CheckpointError as error:
            faults.append(str(error))
        else:
            sound.append(path)
    return found, sound, faults


def _twice(path: Path, name: str, first: Path) -> str:
    return f"{path}: holds tensor '{name}', which {first} holds, too"


def headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Headers of all tensors in some files.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or two hold a tensor of one name.
    """
    found: dict[str, StoredTensor] = {}
    for path in files:
        with _opened(path) as file:
            header, start = check_header(path)
            for name in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                if name in found:
                    raise CheckpointError(_twice(path, name, found[name].file))
                part = file.get_slice(name)
                found[name] = StoredTensor(
                    path, str(part.get_dtype()), tuple(part.get_shape()), start + header[name]["data_offsets"][0]
                )
    return found


def read_tensor(name: str, stored: StoredTensor) -> torch.Tensor:
    """One tensor, on the CPU. Raises CheckpointError as `read_rows`."""
    return read_rows(name, stored, 0, stored.shape[0] if stored.shape else 1)


def read_rows(name: str, stored: StoredTensor, start: int, stop: int) -> torch.Tensor:
    """Rows start to stop of a tensor's first dimension, on the CPU; all of one without dimensions.

    Read, and not mapped: pages of a map count as memory of this process.

    Args:
        name: for errors.
        stored: where it is.
        start, stop: within the tensor.

    Raises:
        CheckpointError: the file is not there or shorter than its header says, or torch has no such dtype.
    """
    if stored.dtype not in DTYPES:
        raise CheckpointError(f"{stored.file}: tensor '{name}' is {stored.dtype}, which torch has not")
    dtype, inner = DTYPES[stored.dtype], stored.shape[1:]
    count = math.prod(inner) if stored.shape else 1
    row = count * dtype.itemsize
    made = torch.empty((stop - start) * row, dtype=torch.uint8)
    left, at = made.numpy().data, stored.offset + start * row
    try:
        handle = os.open(stored.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while left:
                got = os.preadv(handle, [left], at)
                if not got:
                    raise CheckpointError(f"{stored.file}: truncated or damaged: ends within tensor '{name}'")
                left, at = left[got:], at + got
        finally:
            os.close(handle)
    except OSError as error:
        raise CheckpointError(f"{stored.file}: cannot be read: {reason(error)}") from None
    return made.view(dtype).reshape((stop - start, *inner) if stored.shape else ())


def _main_file(component: Path) -> tuple[Path | None, Path | None]:
    """The index, else the single file, that is to be read: diffusers' own names before the only one of a variant."""
    for index, name in ((True, _INDEX), (False, _SINGLE)):
        if (component / name).is_file():
            return (component / name, None) if index else (None, component / name)
    indexes = sorted(path for pattern in _INDEXES for path in component.glob(pattern))
    if len(indexes) == 1:
        return indexes[0], None
    singles = sorted(component.glob(_SINGLES[0]))
    return None, singles[0] if len(singles) == 1 and not indexes else None


def _opened(path: Path) -> Any:
    try:
        missing = not path.is_file()
    except OSError:  # a name that no file can have
        missing = True
    if missing:
        raise CheckpointError(f"{path}: missing; the checkpoint is incomplete")
    try:
        # Not for torch, which maps files as if it would write to them: that asks for memory of the file's size.
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {first_line(error)}") from None
