"""The inputs of a demo: which rows of a table it takes, and the table of those alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import quant
from quant.errors import QuantError
from quant.eval.storage.files import write_text
from quant.files.whole_files import whole_file
from quant.pipelines.media import Media, files_in, is_address
from quant.pipelines.rows import Row, read_rows
from quant.pipelines.source import open_source


def rows_of(model: Path, table: Path, settings: quant.GenerationSettings, limit: int | None = None) -> list[Row]:
    """The rows of a table or a file of prompts, the first `limit` where it has more, checked against the model's call.

    Args:
        settings: what all calls get, over the model's own.

    Raises:
        QuantError: the table cannot be read, or does not fit the call.
    """
    name, arguments = open_source(model).call()
    whole = quant.GenerationSettings.read(model).merged(**settings.given())
    return read_rows(table, arguments, name, limit, settings=whole, enough=False, error=QuantError)


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` of `rows`, evenly from the whole table: its parts may hold different kinds."""
    count = min(count, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def places_of(rows: Sequence[Row]) -> list[Path]:
    """Where the files that rows name lie on this machine."""
    places = (media.place for row in rows for media in files_in(row.values))
    return [Path(place) for place in places if place is not None and not is_address(place)]


def write_table(rows: Sequence[Row], path: Path, media: Path) -> None:
    """Writes rows as `read_rows` reads them. Files are named by where they lie.

    Args:
        media: the folder for files that lie nowhere, because a data set holds them itself.

    Raises:
        QuantError: a file cannot be read, or the disk refuses.
    """
    lines = [json.dumps({name: _cell(value, media) for name, value in row.values.items()}) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: object, media: Path) -> Any:
    if isinstance(value, Media):
        return _place(value, media)
    if isinstance(value, Mapping):
        return {name: _cell(each, media) for name, each in value.items()}
    return [_cell(each, media) for each in value] if isinstance(value, list | tuple) else value


def _place(media: Media, folder: Path) -> str:
    if media.place is not None:
        return media.place if is_address(media.place) else str(Path(media.place).resolve())
    data = media.content()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}{Path(media.name).suffix.lower()}"
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)
    return str(path.resolve())
