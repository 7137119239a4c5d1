"""`quant_manifest.json`: what made a checkpoint, what became of each layer, and a SHA-256 of every file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from quant.checkpoint.config import FORMAT_VERSION
from quant.devices import usable_cores
from quant.errors import CheckpointError
from quant.fields import is_number
from quant.files.json_files import read_object, text_of
from quant.text import shown

FILE_NAME = "quant_manifest.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashed(paths: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of files by their keys; several are read at once, for one core hashes slower than a disk reads."""
    with ThreadPoolExecutor(usable_cores()) as threads:
        return dict(zip(paths, threads.map(sha256_of, paths.values()), strict=True))


def write_manifest(folder: Path, body: dict[str, Any], known: dict[str, str]) -> None:
    """Writes the manifest of a folder whose other files are all written.

    Args:
        folder: the checkpoint.
        body: provenance; `format_version` and `files` are added.
        known: SHA-256 of files that were read back as they were written, by path relative to the folder; the others
            are read now.

    Raises:
        CheckpointError: a known file is gone, or a figure of `body` is not finite.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    paths.pop(FILE_NAME, None)  # of the model this one was made from
    digests = {**known, **hashed({name: path for name, path in paths.items() if name not in known})}
    files = {name: {"bytes": path.stat().st_size, "sha256": digests[name]} for name, path in paths.items()}
    lost = sorted(set(known) - set(files))
    if lost:
        raise CheckpointError(f"{folder / lost[0]}: was written and is gone; is the disk sound?")
    path = folder / FILE_NAME
    text = text_of({"format_version": FORMAT_VERSION, **body, "files": files}, str(path), indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint folder, or None where it has none (one saved by diffusers itself).

    Raises:
        CheckpointError: it is not JSON, of an unknown version, or has something else in the place of a list.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    body = read_object(path)
    if not isinstance(body.get("files"), dict):
        raise CheckpointError(f"{path}: damaged: no list of files")
    for name, entry in body["files"].items():
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= set(entry):
            raise CheckpointError(f"{path}: damaged: {shown(name)} has no size and SHA-256")
    if body.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {shown(body.get('format_version'))}; this release reads {FORMAT_VERSION}"
        )
    _check_records(body.get("layers", {}), path)
    _check_provenance(body, path)
    return body


#: What is read of a layer's record, and of what makes a manifest's head; null is none.
_FIGURES = ("weight_error", "alpha", "output_error")
_HEAD: dict[str, tuple[type, ...]] = {"recipe": (dict,), "versions": (dict,), "calibration": (dict, type(None))}


def _check_records(layers: object, path: Path) -> None:
    """Raises CheckpointError unless these are lists of layers' records by component."""
    if not isinstance(layers, dict):
        raise CheckpointError(f"{path}: damaged: layers must be lists of records by component, got {shown(layers)}")
    for component, records in layers.items():
        place = f"{path}: damaged: layers.{component}"
        if not isinstance(records, list):
            raise CheckpointError(f"{place} must be a list of records, got {shown(records)}")
        for i, record in enumerate(records):
            if not isinstance(record, dict) or not isinstance(record.get("name"), str):
                raise CheckpointError(f"{place}[{i}] must be a record with a name, got {shown(record)}")
            if not isinstance(record.get("reason", ""), str):
                raise CheckpointError(f"{place}[{i}].reason must be text, got {shown(record['reason'])}")
            for key in _FIGURES:
                if record.get(key) is not None and not is_number(record[key]):
                    raise CheckpointError(f"{place}[{i}].{key} must be a number, got {shown(record[key])}")


def _check_provenance(body: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError where what made the checkpoint is written as something else."""
    for key, types in _HEAD.items():
        if key in body and not isinstance(body[key], types):
            raise CheckpointError(f"{path}: damaged: {key} must be a mapping, got {shown(body[key])}")
    calibration = body.get("calibration") or {}
    if calibration:
        settings, prompts = calibration.get("settings"), calibration.get("prompts")
        if not isinstance(settings, dict) or not isinstance(prompts, list | None) or "seed" not in calibration:
            raise CheckpointError(f"{path}: damaged: calibration has settings, prompts and a seed")
    recipe = body.get("recipe", {})
    if not all(isinstance(recipe.get(key, ""), str) for key in ("name", "sha256")):
        raise CheckpointError(f"{path}: damaged: recipe has a name and a sha256 of text, got {shown(recipe)}")


def verify_sizes(folder: Path, listed: Mapping[str, dict[str, Any]]) -> None:
    """Raises CheckpointError for the first file that a manifest lists and that is missing, or of another size."""
    for name, entry in listed.items():
        wrong = size_fault(folder, name, entry)
        if wrong is not None:
            raise CheckpointError(wrong)


def verify_digests(folder: Path, listed: Mapping[str, dict[str, Any]]) -> None:
    """Raises CheckpointError for the first file whose SHA-256 is not the listed one. Reads every byte."""
    for name, digest in hashed({name: folder / name for name in listed}).items():
        wrong = digest_fault(folder / name, digest, listed[name])
        if wrong is not None:
            raise CheckpointError(wrong)


def size_fault(folder: Path, name: str, entry: dict[str, Any]) -> str | None:
    """What is wrong with a listed file before it is read: outside, missing, of another size; None where nothing is."""
    path = folder / name
    # By its name, not by where a link leads: the hub's cache is folders of links to files outside.
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return f"{folder / FILE_NAME}: lists {shown(name)}, which is outside the folder"
    try:
        missing = not path.is_file()
    except OSError:  # a name that no file can have
        missing = True
    if missing:
        return f"{path}: missing; the checkpoint is incomplete"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"{path}: has {size} bytes, the manifest says {shown(entry['bytes'])}; copy it again"
    return None


def digest_fault(path: Path, digest: str, entry: dict[str, Any]) -> str | None:
    """What is wrong with a listed file that has this SHA-256; None where nothing is."""
    if digest == entry["sha256"]:
        return None
    return f"{path}: its SHA-256 differs from the manifest's; it is damaged, copy it again"
