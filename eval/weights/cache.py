"""Where fetched networks lie, and how a file gets there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from quant.errors import QuantError

VARIABLE = "QUANT_CACHE_DIR"
_UNFINISHED = ".part"


def folder() -> Path:
    """Where compiled kernels lie too: `$QUANT_CACHE_DIR`, else `$XDG_CACHE_HOME/quant`, else ~/.cache/quant.

    Raises QuantError where none of them can be told.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quant"
    except RuntimeError as error:
        raise QuantError(f"no home folder to keep networks in: set {VARIABLE}") from error


def network_path(name: str) -> Path:
    """Where the weights of the network `name` lie, fetched or not."""
    return folder() / "networks" / f"{name}.safetensors"


def clips_folder() -> Path:
    """Where the fetched video clips lie."""
    return folder() / "clips"


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """A hash of the names, shapes and float32 values, whatever file or device they lie in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.data if array.ndim else array.tobytes())
    return digest.hexdigest()


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path`: under another name first, so that a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp makes files for their owner alone; a cache may be shared.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_unfinished() -> None:
    """Deletes what killed writers left, which is as large as what they wrote. For who alone may write."""
    for room in (folder() / "networks", clips_folder()):
        for path in room.glob(f".*{_UNFINISHED}"):
            path.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes `tensors` as one safetensors file, whole or not at all."""
    write(path, safetensors.torch.save(dict(tensors)))


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors in `path`. Raises QuantError unless their `tensors_sha256` is `sha256`."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise QuantError(f"{path} cannot be read ({error}): delete it and run `quant eval fetch`") from error
    if tensors_sha256(tensors) != sha256:
        raise QuantError(f"{path} does not hold the published weights: delete it and run `quant eval fetch`")
    return tensors
