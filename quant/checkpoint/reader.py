"""Reads a component's config and tensors; what is broken is named by file. Nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from quant.checkpoint.config import METHODS, check_method, quantization_of
from quant.checkpoint.digests import check_header
from quant.checkpoint.manifest import FILE_NAME, read_manifest, verify_files
from quant.checkpoint.shards import WEIGHTS
from quant.errors import CheckpointError
from quant.json_files import read_object
from quant.model_paths import about_config, no_folder
from quant.text import cut, first_line, shown

#: The files that loaders look for first: diffusers' own names, the index of shards before the single file.
_INDEX, _SINGLE = f"{WEIGHTS}.safetensors.index.json", f"{WEIGHTS}.safetensors"
#: Names of indexes and of files of tensors, those of variants such as fp16 among them.
_INDEXES, _SINGLES = ("*.safetensors.index.json", "*.safetensors.index.*.json"), ("*.safetensors",)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is and what its header says: safetensors' dtype name ("F8_E4M3") and the shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


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
    ours = {name: folder / name for name, method in methods.items() if method in METHODS}
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
    check_method(quantization, str(path))
    return body


@dataclass(frozen=True)
class FoundManifest:
    """A manifest, the folder it is in, and the name it has for the component it was asked for."""

    root: Path
    body: dict[str, Any]
    component: str

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The record of each of the component's layers."""
        found: list[dict[str, Any]] = self.body.get("layers", {}).get(self.component, [])
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the checkpoint: everything but files and layers."""
        return {key: value for key, value in self.body.items() if key not in ("files", "layers", "format_version")}


def find_manifest(folder: Path) -> FoundManifest | None:
    """The manifest of a checkpoint or of one of its components, whose parent may hold it; None where none speaks of it.

    Raises:
        CheckpointError: it is damaged or of an unknown version, or lists other weights than those that are there.
    """
    # Not the place that a link leads to, which may be beside no manifest.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100
    body = read_manifest(folder)
    if body is not None:
        found = FoundManifest(folder, body, "")
    else:
        body = read_manifest(folder.parent)
        known = body is not None and (
            folder.name in body.get("layers", {}) or any(name.startswith(f"{folder.name}/") for name in body["files"])
        )
        if body is None or not known:
            return None
        found = FoundManifest(folder.parent, body, folder.name)
    alone = found.component or (folder / "config.json").is_file()
    for component in [found.component] if alone else sorted(found.body.get("layers", {})):
        _check_listed(found, component)
    return found


def verify(folder: Path) -> FoundManifest | None:
    """Checks every file of a checkpoint against its manifest, and returns that; None where there is none.

    Raises:
        CheckpointError: names the first file that is missing, truncated, damaged, or unknown to the manifest.
    """
    found = find_manifest(folder)
    if found is not None:
        verify_files(found.root, found.body)
    return found


def verify_component(folder: Path) -> None:
    """Checks a component's files against the manifest, and of the rest of its checkpoint what is there.

    Other quantized components are left to their own loading: diffusers loads a pipeline's parts one by one.

    Raises:
        CheckpointError: as `verify`.
    """
    found = find_manifest(folder)
    if found is None:
        return
    mine, others = found.component, set(found.body.get("layers", {})) - {found.component}
    files = {}
    for name, entry in found.body["files"].items():
        part = name.partition("/")[0]
        if part not in others and (mine in ("", part) or (found.root / name).is_file()):
            files[name] = entry
    verify_files(found.root, {"files": files})


def _check_listed(found: FoundManifest, component: str) -> None:
    """Refuses weights that the manifest does not know: a loader may take them for those that were checked."""
    folder = found.root / component
    place = f"{component}/" if component else ""
    listed = {name.removeprefix(place) for name in found.body["files"] if name.startswith(place)}
    manifest = found.root / FILE_NAME
    stale = next((path for path in weight_files(folder) if path.name not in listed), None)
    if stale is not None:
        raise CheckpointError(f"{stale}: is not in {manifest}, so it is of another checkpoint; remove it")
    if not any(name.endswith(".safetensors") and "/" not in name for name in listed):
        raise CheckpointError(f"{manifest}: lists no weights of {folder}, so nothing vouches for them")
    if "config.json" not in listed:
        raise CheckpointError(f"{manifest}: lists no {folder / 'config.json'}, so nothing vouches for it")


def weight_files(component: Path) -> list[Path]:
    """All indexes and files of tensors in a component's folder, whether or not a loader would take them."""
    return sorted(path for pattern in (*_INDEXES, *_SINGLES) for path in component.glob(pattern))


def stored_tensors(component: Path) -> dict[str, StoredTensor]:
    """Headers of all tensors of a component, in the files that diffusers would take; no tensor is read.

    Raises:
        CheckpointError: a shard is missing or truncated, or the index disagrees with the shards.
    """
    index, single = _main_file(component)
    if index is None:
        if single is None:
            count = len(list(component.glob(_SINGLES[0])))
            raise CheckpointError(f"{component}: {count} .safetensors files and no index; expected one")
        return headers([single])
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or any(Path(str(f)).name != f for f in listed.values()):
        raise CheckpointError(f"{index}: damaged: weight_map must name files of its own folder")
    found = headers(component / name for name in sorted(set(listed.values())))
    for name, tensor in found.items():
        if listed.get(name) != tensor.file.name:
            raise CheckpointError(f"{tensor.file}: holds tensor '{name}', which {index} does not list for it")
    missing = sorted(set(listed) - set(found))
    if missing:
        raise CheckpointError(f"{index}: lists tensor '{cut(missing[0], 200)}', which its file does not hold")
    return found


def headers(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Headers of all tensors in some files.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or two hold a tensor of one name.
    """
    found: dict[str, StoredTensor] = {}
    for path in files:
        with _opened(path) as file:
            check_header(path)
            for name in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                if name in found:
                    raise CheckpointError(f"{path}: holds tensor '{name}', which {found[name].file} holds, too")
                part = file.get_slice(name)
                found[name] = StoredTensor(path, str(part.get_dtype()), tuple(part.get_shape()))
    return found


def read_tensor(name: str, stored: StoredTensor) -> torch.Tensor:
    """One tensor, on the CPU."""
    with _opened(stored.file) as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def read_tensors(tensors: dict[str, StoredTensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor in turn, on the CPU, one in memory at a time."""
    by_file: dict[Path, list[str]] = {}
    for name, tensor in tensors.items():
        by_file.setdefault(tensor.file, []).append(name)
    for path, names in by_file.items():
        with _opened(path) as file:
            for name in names:
                yield name, file.get_tensor(name)


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
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; the checkpoint is incomplete")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, RuntimeError) as error:  # torch maps the file, and says so in its own way
        raise CheckpointError(f"{path}: truncated or damaged: {first_line(error)}") from None
