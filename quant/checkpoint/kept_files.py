"""Files of tensors that a run keeps for the next one: whole or absent, of one run, and as they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from quant.devices import memory_lacking
from quant.errors import CalibrationError
from quant.files.places import is_file, reason, replaced

Tensors = dict[str, torch.Tensor]
#: All of a file's metadata lie under one key, for the library writes several in an order of chance: what is kept twice
#: is the same bytes.
_NOTES, _SHA256 = "notes", "sha256"


def keep(path: Path, tensors: Tensors, notes: Mapping[str, str]) -> None:
    """Writes a file in one step, with a SHA-256 of all that it holds.

    Args:
        path: its folder is made.
        tensors: by name, contiguous, none of which shares its memory with another.
        notes: what is known of them, the key of the run among it.

    Raises:
        CalibrationError: the disk refuses.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, unfinished):
            text = json.dumps({**notes, _SHA256: _digest(tensors, notes)}, sort_keys=True)
            save_file(tensors, unfinished, metadata={_NOTES: text})
    except (OSError, SafetensorError) as error:
        raise CalibrationError(
            f"{path}: cannot be written, and holds what a stopped run needs: {reason(error)}"
        ) from None


def kept(path: Path, **notes: str) -> tuple[Tensors, dict[str, str]] | None:
    """What `keep` wrote, tensors and all notes; None where nothing is, or something else.

    Args:
        path: the file.
        notes: those that it must have: a file of another run, or of another part of this one, counts as absent.
    """
    if not is_file(path):  # nor is a pipe waited for
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found: dict[str, str] = _noted(file.metadata())
            if any(found.get(key) != value for key, value in notes.items()):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if memory_lacking(error):
            raise
        return None
    if found.pop(_SHA256, None) != _digest(tensors, found):
        return None
    return tensors, found


def _noted(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What `keep` noted. Raises ValueError for anything else."""
    try:
        found = json.loads((metadata or {}).get(_NOTES, ""))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("no notes")
    return found


def _digest(tensors: Tensors, notes: Mapping[str, str]) -> str:
    names = sorted(tensors)
    shapes = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    digest = hashlib.sha256(json.dumps([sorted(notes.items()), shapes]).encode())
    for name in names:
        digest.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
