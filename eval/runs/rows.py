"""Rows of a data set, streamed by Hugging Face datasets: of a file, a folder, or the id of one on a model hub."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.json_files import json_rows
from quant.text import first_line

_READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def rows(source: str, what: str, *, videos: tuple[str, ...] = ()) -> Iterator[Mapping[str, Any]]:
    """The rows of the split "train", or of the only one. Streaming copies nothing into the user's cache.

    Args:
        source: a .txt, .jsonl, .json, .parquet or .csv file, a folder, or an id.
        what: is read of it, for messages.
        videos: names of columns; of the first that is there, rows have {"path", "bytes"}, and nothing is decoded.

    Raises:
        QuantError: it cannot be read, or has several splits and none is "train".
    """
    try:
        from datasets import Video, load_dataset
    except ImportError:
        raise QuantError(f"reading {what} needs Hugging Face datasets: pip install 'quant-video[eval]'") from None
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in _READERS:
        raise QuantError(f"{path}: {what} are read from {', '.join(_READERS)} files")
    # A file's name is not asked for on a hub, which takes half a minute to say no without a network.
    if (path.is_absolute() or path.suffix.lower() in _READERS) and not path.exists():
        raise QuantError(f"{path}: no such file or folder of {what}")
    if path.is_file() and path.stat().st_size == 0:
        return
    if path.is_file() and _READERS[path.suffix.lower()] == "json":
        yield from json_rows(path, QuantError)
        return
    try:
        # datasets takes a file's name for a pattern: so it is escaped.
        if path.is_file():
            reader, files = _READERS[path.suffix.lower()], glob.escape(str(path))
            loaded = load_dataset(reader, data_files={"train": files}, streaming=True)
        else:
            loaded = load_dataset(source, streaming=True)
        splits = list(loaded)
        split = "train" if "train" in splits else splits[0]
        if split != "train" and len(splits) > 1:
            raise QuantError(f"{source}: has no split 'train' but {', '.join(splits)}: give a file of {what} instead")
        found = loaded[split]
        columns = set(found.column_names or ())
        if column := next((name for name in videos if name in columns), None):
            # Not decoded by datasets: it asks for torchcodec, which a CPU build of torch cannot load.
            found = found.cast_column(column, Video(decode=False))
        yield from found
    except QuantError:
        raise
    except Exception as error:  # datasets raises what its readers raise, of many kinds
        raise QuantError(f"{source}: {what} cannot be read: {first_line(error)}") from None
