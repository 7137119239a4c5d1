"""The files of a pipeline: those that it consists of, and those that `--full` copies from it.

A model's folder may hold more than the model: earlier checkpoints, videos, other tools' files. What counts is what
model_index.json names and, at the top, the small files that speak of the model.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from quant.checkpoint.manifest import FILE_NAME
from quant.errors import ModelError
from quant.files.places import is_file, reason
from quant.pipelines.source import MODULAR_INDEX, Source
from quant.pipelines.weights import PICKLES

_SPOKEN = (".json", ".md", ".txt")
_LICENSES = ("license", "licence", "notice", "copying")
#: At the top of a pipeline's folder.
_READ = ("generation.json", "model_index.json", MODULAR_INDEX)
#: In a lone component's folder: its config, its weights and their indexes.
_OF_A_COMPONENT = ("config.json", ".safetensors", ".safetensors.index.json")
#: Written anew for every checkpoint.
_OURS = (FILE_NAME, "sensitivity.json", "recipe.yaml")


def places_of(source: Source) -> list[Path]:
    """Every folder that a model lies in, for what may not be written into any of them."""
    if source.file is not None:
        return [source.file]
    parts = [source.folder / name for name in source.parts] if source.is_pipeline else []
    # The hub's cache holds a model as snapshots of links to files in a folder next to them.
    cached = [source.folder.parent.parent] if source.folder.parent.name == "snapshots" else []
    return [source.folder, *parts, *cached]


def files_of(source: Source) -> dict[str, Path]:
    """The files that a model is read from, by their path in its folder."""
    if source.file is not None:
        return {source.file.name: source.file}
    if not source.is_pipeline:
        entries = (path for path in _entries(source.folder) if path.name.endswith(_OF_A_COMPONENT))
        return {path.name: path for path in entries if is_file(path)}
    found = {name: source.folder / name for name in _READ if is_file(source.folder / name)}
    for name in source.parts:
        found.update(_within(source.folder / name, name))
    return dict(sorted(found.items()))


def files_to_copy(source: Source, quantized: Iterable[str]) -> dict[str, Path]:
    """What `--full` copies, by the path in the new folder: all components but the quantized ones, and the known files.

    Pickled weights are left out, because nothing here loads them.

    Raises:
        ModelError: a lone component; a component that is missing or has pickled weights only; a link that leads
            nowhere or in a circle; a file that cannot be read, or is none.
    """
    if not source.is_pipeline:
        raise ModelError(
            f"{source.folder}: is one component, and --full copies the others of a pipeline; give the pipeline's folder"
        )
    found = dict(_top(source))
    for name in source.parts:
        if name in quantized:
            continue
        folder = source.folder / name
        if not folder.is_dir():
            raise ModelError(f"{folder}: missing, and model_index.json names it; --full copies every component")
        files = dict(_within(folder, name))
        pickles = [path for path in files if path.endswith(PICKLES)]
        if pickles and not any(path.endswith(".safetensors") for path in files):
            raise ModelError(f"{folder}: has pickled weights only; save it as safetensors first")
        found.update({path: file for path, file in files.items() if path not in pickles})
    for path in found.values():
        _check_readable(path)
    return found


def copy_files(files: Mapping[str, Path], out: Path) -> None:
    """Copies files into a new folder.

    Raises:
        ModelError: one cannot be read.
        OSError: one cannot be written, or two names are one on this file system.
    """
    for name, source in files.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for piece in _pieces(source):
                file.write(piece)


def _top(source: Source) -> Iterator[tuple[str, Path]]:
    """The files at the top that speak of the model, and the folder of licenses that REUSE asks for."""
    for path in _entries(source.folder):
        name = path.name.lower()
        if name == "licenses" and path.is_dir():
            yield from _within(path, path.name)
        elif path.is_dir() or path.name in (*_OURS, *source.parts):
            continue
        elif name.endswith(_SPOKEN) or name.startswith(_LICENSES):
            yield path.name, path


def _within(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Visible files of a folder and those below it, by path; links are followed."""
    yield from _walk(folder, name, ())


def _walk(folder: Path, name: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    with _read(folder):
        real = folder.resolve()
    if real in above:
        raise ModelError(f"{folder}: is a link to a folder that it lies in; remove it")
    for path in _entries(folder):
        inside = f"{name}/{path.name}"
        with _read(path):
            ours, is_folder = (path / FILE_NAME).is_file(), path.is_dir()
        if ours:  # a checkpoint that was put there
            continue
        if is_folder:
            yield from _walk(path, inside, (*above, real))
        else:
            yield inside, path


def _entries(folder: Path) -> list[Path]:
    with _read(folder), suppress(FileNotFoundError):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return []


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """Names what cannot be read within it."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from None


def _check_readable(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: is no file that could be copied; remove it or leave out --full")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        link = ""
        with suppress(OSError):  # it is no link
            link = f"is a link to {path.readlink()}, and "
        raise ModelError(f"{path}: {link}cannot be read: {reason(error)}") from None


def _pieces(path: Path) -> Iterator[bytes]:
    with _read(path), path.open("rb") as file:
        while piece := file.read(1 << 24):
            yield piece
