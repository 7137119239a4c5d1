"""Reads a component's config and tensors; what is broken is named by file. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from quant.checkpoint.config import CONFIG_KEY, METHODS, check_method
from quant.checkpoint.manifest import read_manifest, verify_files
from quant.checkpoint.shards import WEIGHTS
from quant.errors import CheckpointError
from quant.json_files import read_object


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is and what its header says: safetensors' dtype name ("F8_E4M3") and the shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def component_folders(folder: Path) -> dict[str, Path]:
    """The quantized components of a checkpoint by name; "" for a folder that is itself one.

    Raises:
        CheckpointError: there is none.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    if (folder / "config.json").is_file() and CONFIG_KEY in read_object(folder / "config.json"):
        return {"": folder}
    # Another library's components, such as a text encoder in bitsandbytes' format, are that library's to load.
    found = {
        path.parent.name: path.parent
        for path in sorted(folder.glob("*/config.json"))
        if read_object(path).get(CONFIG_KEY, {}).get("quant_method") in METHODS
    }
    if not found:
        raise CheckpointError(f"{folder}: holds no quantized component (a config.json with '{CONFIG_KEY}')")
    return found


def read_config(component: Path) -> dict[str, Any]:
    """A component's config.json, with a quantization_config this release reads.

    Raises:
        CheckpointError: missing, damaged, not ours, or of an unknown version.
    """
    path = component / "config.json"
    body = read_object(path)
    quantization = body.get(CONFIG_KEY)
    if not isinstance(quantization, dict):
        raise CheckpointError(f"{path}: has no '{CONFIG_KEY}'; the component is not quantized")
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
        CheckpointError: it is damaged or of an unknown version.
    """
    folder = folder.resolve()
    body = read_manifest(folder)
    if body is not None:
        return FoundManifest(folder, body, "")
    body = read_manifest(folder.parent)
    if body is not None and f"{folder.name}/config.json" in body["files"]:
        return FoundManifest(folder.parent, body, folder.name)
    return None


def verify(folder: Path) -> FoundManifest | None:
    """Checks every file of a checkpoint against its manifest, and returns that; None where there is none.

    Raises:
        CheckpointError: names the first file that is missing, truncated or damaged.
    """
    found = find_manifest(folder)
    if found is not None:
        verify_files(found.root, found.body)
    return found


def stored_tensors(component: Path) -> dict[str, StoredTensor]:
    """Headers of all tensors of a component; no tensor is read.

    Raises:
        CheckpointError: a shard is missing or truncated, or the index disagrees with the shards.
    """
    index = _main_file(component, ".safetensors.index.json")
    listed: dict[str, str] | None = None
    if index is not None:
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or any(Path(str(f)).name != f for f in weight_map.values()):
            raise CheckpointError(f"{index}: damaged: weight_map must name files of its own folder")
        listed = weight_map
        files = [component / name for name in sorted(set(weight_map.values()))]
    else:
        only = _main_file(component, ".safetensors")
        if only is None:
            count = len(list(component.glob("*.safetensors")))
            raise CheckpointError(f"{component}: {count} .safetensors files and no index; expected one")
        files = [only]
    found: dict[str, StoredTensor] = {}
    for path in files:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                if listed is not None and listed.get(name) != path.name:
                    raise CheckpointError(f"{path}: holds tensor '{name}', which {index} does not list for it")
                part = file.get_slice(name)
                found[name] = StoredTensor(path, str(part.get_dtype()), tuple(part.get_shape()))
    missing = sorted(set(listed or ()) - set(found))
    if missing:
        raise CheckpointError(f"{index}: lists tensor '{missing[0]}', which its file does not hold")
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


def _main_file(component: Path, suffix: str) -> Path | None:
    """The file that a loader takes: diffusers' own name before a variant's, such as fp16's, else the only one."""
    named = component / f"{WEIGHTS}{suffix}"
    found = sorted(component.glob(f"*{suffix}"))
    return named if named in found else found[0] if len(found) == 1 else None


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; the checkpoint is incomplete")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from None
