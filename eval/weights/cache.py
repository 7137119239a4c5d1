"""Where fetched networks lie, and how a file gets there whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from quant.errors import QuantError
from quant.eval.storage import files
from quant.files.cache import cache_folder
from quant.files.places import replaced
from quant.files.whole_files import unfinished_name


def folder() -> Path:
    """The user's cache. Raises QuantError where there is no home folder and none is named."""
    return cache_folder("networks")


def network_path(name: str) -> Path:
    """The file of the weights of the network `name`, fetched or not."""
    return folder() / "networks" / f"{name}.safetensors"


def clips_folder() -> Path:
    """The folder of the fetched video clips."""
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
    unfinished = unfinished_name(path)
    with replaced(path, unfinished):
        unfinished.write_bytes(data)


def remove_unfinished() -> None:
    """Deletes what killed writers left, which is as large as what they wrote. For the one process that may write."""
    for room in (folder() / "networks", clips_folder()):
        files.remove_unfinished(room)


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
