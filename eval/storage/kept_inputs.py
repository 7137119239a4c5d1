"""The files that a run's samples name, copied into its folder by their content: a run is gone on with from it alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quant.eval.storage.folder import RunFolder
from quant.files.whole_files import whole_file
from quant.pipelines.media import Media, files_in
from quant.pipelines.rows import Row

_FILE = {"file", "sha256"}


def keep_inputs(run: RunFolder, rows: Iterable[Row]) -> None:
    """Copies every file that rows name, of which there is no copy yet; a folder of frames becomes one.

    Raises:
        QuantError: one cannot be read, or the disk refuses.
    """
    for row in rows:
        for media in files_in(row.values):
            place = _place(run, media.plain()["sha256"])
            if media.folder is None:
                _copy(media, place)
                continue
            for i, part in enumerate(media.parts()):
                _copy(part, place / f"{i:06}{Path(part.name).suffix.lower()}")


def kept_row(run: RunFolder, text: str, number: int) -> Row:
    """A row as `inputs_text` wrote it, with its files in the run's folder."""
    return Row(number, {name: _located(run, value) for name, value in json.loads(text).items()})


def inputs_text(row: Row) -> str:
    """A row in one line of JSON, which is the same for the same content of its files; "" for a prompt alone."""
    return "" if row.is_prompt else json.dumps(row.plain(), sort_keys=True)


def _located(run: RunFolder, value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == _FILE:
            return Media(value["file"], str(_place(run, value["sha256"])))
        return {name: _located(run, each) for name, each in value.items()}
    return [_located(run, each) for each in value] if isinstance(value, list) else value


def _place(run: RunFolder, sha256: str) -> Path:
    return run.path / "inputs" / sha256


def _copy(media: Media, place: Path) -> None:
    if not place.is_file():
        with whole_file(place) as unfinished:
            unfinished.write_bytes(media.content())
