"""What a file of tensors says of itself and of the config.json next to it: two SHA-256 in the metadata of its header.

A header in which two tensors changed places, or a config whose number of heads was edited, is a sound header and a
sound config, of another model. A manifest would tell; these tell where there is none or its hashes were made anew.
Files of other writers, diffusers' `save_pretrained` among them, have none and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.config import CONFIG_KEY
from quant.errors import CheckpointError
from quant.files.json_files import parse_object, read_object
from quant.text import shown

METADATA = "__metadata__"
_HEADER, _CONFIG = "quant_header_sha256", "quant_config_sha256"
#: Keys that change without another model being meant.
_FREE = ("_name_or_path", "_diffusers_version")
_FREE_OF_QUANTIZATION = ("fused",)


def config_metadata(config: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file of tensors that vouches for a config.json."""
    return {_CONFIG: _config_digest(config)}


def with_digest(header: Mapping[str, Any]) -> dict[str, Any]:
    """A safetensors header whose metadata vouches for the rest of it."""
    return {**header, METADATA: {**header[METADATA], _HEADER: _header_digest(header)}}


def check_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file of tensors, and where its first tensor begins, in bytes.

    Raises:
        CheckpointError: it is another sound header than the file was written with.
    """
    header, size = read_header(path)
    found = _metadata(header, path).get(_HEADER)
    if found is not None and found != _header_digest(header):
        raise CheckpointError(f"{path}: truncated or damaged: its header is not the one it was written with")
    return header, size


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a file of tensors says besides its tensors. Raises CheckpointError for a damaged one."""
    return _metadata(read_header(path)[0], path)


def check_config(component: Path, files: Iterable[Path]) -> bool:
    """Returns whether a file of tensors vouches for the config.json next to it.

    Raises:
        CheckpointError: config.json is not the one that a file was written with.
    """
    path = component / "config.json"
    digest, vouched = _config_digest(read_object(path)), False
    for file in files:
        found = _metadata(read_header(file)[0], file).get(_CONFIG)
        if found is not None and found != digest:
            raise CheckpointError(
                f"{path}: was changed after {file.name} was written, whose hash of it differs; restore it, or, where "
                "that was on purpose, load it with quant.load(..., check_files=False) and save it again"
            )
        vouched = vouched or found is not None
    return vouched


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a file of tensors, and where its first tensor begins, in bytes.

    Raises:
        CheckpointError: it is none.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size)
    try:
        return parse_object(text.decode("utf-8"), str(path)), 8 + size
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}") from None


def _metadata(header: Mapping[str, Any], path: Path) -> dict[str, str]:
    """What a header says besides its tensors; nothing where it has none, or null."""
    found = {} if header.get(METADATA) is None else header[METADATA]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError(f"{path}: truncated or damaged: its {METADATA} must map to texts, got {shown(found)}")
    return found


def _header_digest(header: Mapping[str, Any]) -> str:
    known = {key: value for key, value in (header.get(METADATA) or {}).items() if key != _HEADER}
    return _sha256({**header, METADATA: known})


def _config_digest(config: Mapping[str, Any]) -> str:
    quantization = config.get(CONFIG_KEY) or {}
    kept = {key: value for key, value in quantization.items() if key not in _FREE_OF_QUANTIZATION}
    return _sha256({**{key: value for key, value in config.items() if key not in _FREE}, CONFIG_KEY: kept})


def _sha256(body: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    except RecursionError:
        raise CheckpointError("config.json: damaged: nested too deeply") from None
