"""Real clips to compare with: the files of a folder, or the videos of a data set."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.files.data_sets import rows
from quant.files.videos import content_of

COLUMNS = ("video", "path")
SUFFIXES = (".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm")


class Clip(NamedTuple):
    """One encoded video; `name` is for messages."""

    name: str
    data: bytes

    @property
    def id(self) -> str:
        """16 hex digits of the content: neither names nor the order of clips decide what is known of one."""
        return hashlib.sha256(self.data).hexdigest()[:16]


def clips_of(config: EvaluationConfig) -> Iterable[Clip]:
    """The real clips that a configuration names, read as they are asked for; none where it names none."""
    return () if config.references is None else read_clips(config.references, config.reference_samples)


def read_clips(source: str, limit: int | None = None) -> Iterator[Clip]:
    """The first `limit` clips, one at a time.

    Of a folder with videos in it, all below it by name. Else of a data set: a .jsonl, .json, .csv or .parquet file, a
    folder, or the id of one on a model hub, with a column `video` or `path` of encoded videos or of paths; relative
    ones start from the file's folder.

    Raises:
        QuantError: there are none, or fewer than `limit`; one that cannot be read is named.
    """
    found = 0
    for clip in itertools.islice(_files(source) or _of_rows(source), limit):
        found += 1
        yield clip
    if not found:
        raise QuantError(f"{source}: no clips in it; {', '.join(SUFFIXES)} files are read, or a column 'video'")
    if limit is not None and found < limit:
        raise QuantError(f"{source}: {found} clips, {limit} were asked for")


def _files(source: str) -> Iterator[Clip] | None:
    """The videos of a folder by name; None where it is no folder, or one without videos."""
    folder = Path(source)
    if not folder.is_dir():
        return None
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    return (Clip(str(path), path.read_bytes()) for path in paths) if paths else None


def _of_rows(source: str) -> Iterator[Clip]:
    base = Path(source).parent if Path(source).is_file() else Path()
    for number, row in enumerate(rows(source, "clips", videos=COLUMNS), start=1):
        column = next((name for name in COLUMNS if name in row), None)
        if column is None:
            raise QuantError(f"{source}: no column named {' or '.join(COLUMNS)}; it has {', '.join(map(str, row))}")
        video = row[column] or {}
        if isinstance(video, str):  # of a .csv file datasets does not know the columns before it reads
            video = {"path": video}
        name, data = f"{source}, row {number}", video.get("bytes")
        if data is None and video.get("path"):
            name, data = video["path"], _read(video["path"], base, name)
        if data is None:
            raise QuantError(f"{name}: '{column}' is empty")
        yield Clip(name, data)


def _read(path: str, base: Path, row: str) -> bytes:
    # The path of a data set on a hub has a protocol, a local one may be relative.
    place = path if "://" in path else str(base / path)
    try:
        return content_of(place)
    except OSError as error:
        raise QuantError(f"{row}: {place} cannot be read: {error}") from None
