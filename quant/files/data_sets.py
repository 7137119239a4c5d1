"""Rows of a data set: of a file, a folder, or the id of one on a model hub, read as they are asked for."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.files.json_files import json_rows
from quant.files.places import is_file, is_folder
from quant.text import cut, first_line

_READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def rows(
    source: str | Path, what: str, *, videos: tuple[str, ...] = (), error: type[QuantError] = QuantError
) -> Iterator[Mapping[str, Any]]:
    """The rows of a file, or of the split "train", or of the only one. Nothing is copied into the user's cache.

    Pictures and videos that the data set knows as such are {"path", "bytes"}, and nothing is decoded.

    Args:
        source: a .txt, .jsonl, .json, .parquet or .csv file, a folder, or an id.
        what: is read of it, for messages.
        videos: names of columns; of the first that is there, rows have {"path", "bytes"}, and nothing is decoded.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: it cannot be read, or has several splits and none is "train".
    """
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if not is_file(path):
        # A file's name is not asked for on a hub, which takes half a minute to say no without a network.
        if (path.is_absolute() or reader is not None) and not is_folder(path):
            raise error(f"{cut(str(path), 300)}: no such file or folder of {what}")
        yield from _streamed(str(source), {}, videos, error, what, f"{source}: {what} cannot be read")
        return
    if reader is None:
        raise error(f"{path}: {what} are read from {', '.join(_READERS)} files")
    if path.stat().st_size == 0:
        return
    if reader == "json":
        yield from json_rows(path, error)
        return
    # datasets takes a file's name for a pattern, "prompts[1].txt" for "prompts1.txt": so it is escaped.
    files = {"data_files": {"train": glob.escape(str(path))}}
    yield from _streamed(reader, files, videos, error, what, f"{path}: not readable as {reader}")


def _streamed(
    name: str, files: dict[str, Any], videos: tuple[str, ...], error: type[QuantError], what: str, unreadable: str
) -> Iterator[Mapping[str, Any]]:
    """The rows that Hugging Face datasets reads."""
    try:
        from datasets import Image, Video, load_dataset
    except ImportError:
        raise error(f"reading {what} needs Hugging Face datasets: pip install datasets") from None
    try:
        with unlogged("datasets"):
            loaded = load_dataset(name, streaming=True, **files)
            splits = list(loaded)
            split = "train" if "train" in splits else splits[0]
            if split != "train" and len(splits) > 1:
                raise error(f"{name}: has no split 'train' but {', '.join(splits)}: give a file of {what} instead")
            found = loaded[split]
            columns = set(found.column_names or ())
            for column, feature in (found.features or {}).items():
                if isinstance(feature, Image | Video):
                    found = found.cast_column(column, type(feature)(decode=False))
            if column := next((each for each in videos if each in columns), None):
                # Not decoded by datasets: it asks for torchcodec, which a CPU build of torch cannot load.
                found = found.cast_column(column, Video(decode=False))
            yield from found
    except QuantError:
        raise
    except Exception as cause:  # datasets raises what its readers raise, of many kinds
        raise error(f"{unreadable}: {cut(first_line(cause), 300)}") from None


@contextmanager
def unlogged(name: str) -> Iterator[None]:
    """Keeps a library from logging what it raises: the caller reports that."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
