"""Inputs of a pipeline: rows of a table whose columns are arguments of its call.

A row has a value for each argument that it speaks of: text, numbers, and media by their paths, which start from the
table's folder. Settings that all rows share are `quant.pipelines.settings`'; what a row says wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant.errors import CalibrationError, ModelError, QuantError
from quant.files.data_sets import rows as read_table
from quant.files.places import is_folder
from quant.pipelines.arguments import (
    FILES,
    FRAMES,
    OURS,
    RECORD,
    TENSOR,
    Argument,
    Arguments,
    arguments_of,
    call_arguments,
    class_name,
    frames_name,
    in_words,
)
from quant.pipelines.media import Size, files_in, located, opened, plain
from quant.pipelines.settings import GenerationSettings
from quant.prompts import COLUMNS, check_enough, clean, read_prompts
from quant.text import cut, shown

#: A file, folder or data set id, or the rows themselves: prompts, or mappings of arguments.
Inputs = str | Path | Sequence[str] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One call of a pipeline.

    Attributes:
        number: in its source, from 1.
        values: by argument; media are not read yet.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The prompt, or else the names of the files."""
        prompt = self.values.get("prompt")
        return prompt if isinstance(prompt, str) else ", ".join(each.name for each in files_in(self.values))

    @property
    def is_prompt(self) -> bool:
        """Is there nothing but a prompt?"""
        return set(self.values) == {"prompt"} and isinstance(self.values["prompt"], str)

    def plain(self) -> dict[str, Any]:
        """What JSON holds of it: media by name and hash."""
        return {name: plain(value) for name, value in self.values.items()}

    def __str__(self) -> str:
        return f"row {self.number} ({shown(self.text)})" if self.text else f"row {self.number}"


def prompt_rows(prompts: Sequence[str]) -> list[Row]:
    """Rows of prompts alone."""
    return [Row(number, {"prompt": prompt}) for number, prompt in enumerate(prompts, start=1)]


def read_rows(
    source: Inputs,
    arguments: Arguments,
    pipeline: str,
    limit: int | None = None,
    *,
    settings: GenerationSettings | None = None,
    enough: bool = True,
    error: type[QuantError] = CalibrationError,
) -> list[Row]:
    """The rows of a table, checked against what a pipeline's call takes; no media are decoded.

    Args:
        source: a .txt, .jsonl, .json, .parquet or .csv file, a folder, the id of a data set on a hub, or rows. A column
            `caption` or `text` is the prompt where there is none of that name.
        arguments: of the call; `pipeline` names its class.
        limit: how many to take from the start.
        settings: what all calls get besides.
        enough: refuse a source that has fewer than `limit`; rows that are given may be fewer.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: it cannot be read or is empty; a column that the call does not take, an
            argument that it needs and a row has not, or a file that is missing, each with the row.
    """
    given = isinstance(source, str | Path)
    name = str(source) if given else "inputs"
    base, table = _table(source, error)
    found: list[Row] = []
    for number, cells in enumerate(table, start=1):
        if len(found) == limit:
            break
        try:
            row = Row(number, dict(_values(cells, arguments, base)))
            if given and row.is_prompt and not row.text:  # an empty line
                continue
            check_row(row, arguments, pipeline, settings or GenerationSettings())
        except (CalibrationError, ModelError) as cause:
            raise error(f"{name}: row {number}: {cause}") from None
        found.append(row)
    if not found:
        raise error(f"{name}: no rows in it")
    if given and enough:
        check_enough(found, limit, name, error)
    return found


def read_any(
    prompts: str | Path | Sequence[str] | None,
    inputs: Inputs | None,
    arguments: Arguments,
    pipeline: str,
    limit: int | None,
    *,
    settings: GenerationSettings,
    enough: bool,
    error: type[QuantError] = CalibrationError,
) -> list[Row]:
    """The rows of `inputs`, or those of `prompts`, of which only the prompts are read; one of both is given.

    Raises:
        QuantError: of the class `error`: as `read_rows` and `read_prompts`.
    """
    if inputs is not None:
        return read_rows(inputs, arguments, pipeline, limit, settings=settings, enough=enough, error=error)
    assert prompts is not None
    found = prompt_rows(read_prompts(prompts, limit, enough=enough, error=error))
    try:
        check_row(found[0], arguments, pipeline, settings)
    except (CalibrationError, ModelError) as cause:
        raise error(str(cause)) from None
    return found


def check_row(row: Row, arguments: Arguments, pipeline: str, settings: GenerationSettings) -> None:
    """Refuses what a call does not take, and a row that lacks what it needs.

    Raises:
        CalibrationError: with what the call takes.
        ModelError: a value that no setting can have.
    """
    takes = f"its call takes {cut(in_words(arguments), 900)}"
    for name, value in row.values.items():
        if name not in arguments or name in OURS:
            raise CalibrationError(f"{pipeline} takes no {shown(name)}; {takes}")
        if arguments[name].kind not in (*FILES, RECORD):
            GenerationSettings(**{name: value})
        if arguments[name].is_text and not isinstance(value, str | list | tuple):
            raise CalibrationError(f"'{name}' must be text, got {shown(value)}")
    for media in files_in(row.values):
        media.check()
    known = {*row.values, *settings.for_arguments(arguments, pipeline)}
    lacking = [name for name, each in arguments.items() if each.required and name not in known]
    if lacking:
        words = " and ".join(f"'{name}'" for name in lacking)
        raise CalibrationError(
            f"{pipeline} needs {words}: give a table with that column, --inputs FILE (inputs= in Python); {takes}"
        )


def call_of(row: Row, pipe: Any, settings: GenerationSettings) -> dict[str, Any]:
    """The keyword arguments of one call: the settings, and over them the row, its media read and resized.

    Pictures and frames get the call's height and width, as far as they are known; of a video no more frames are read
    than the clip will have.

    Raises:
        CalibrationError: a file that cannot be read.
        ModelError: a setting that the pipeline does not take, or would round.
    """
    arguments = call_arguments(pipe)
    files = {name: value for name, value in row.values.items() if _kind(arguments, name) in (*FILES, RECORD)}
    merged = settings.merged(**{name: value for name, value in row.values.items() if name not in files})
    call = merged.for_pipeline(pipe)
    height, width = (call.get(name, arguments[name].default if name in arguments else None) for name in _SIZE)
    size = (width, height) if type(height) is int and type(width) is int else None
    frames = call.get(frames_name(arguments) or "", merged.get(FRAMES[0]))
    for name, value in files.items():
        if name not in arguments:
            raise ModelError(f"{class_name(pipe)} takes no '{name}'")
        call[name] = _opened(value, arguments[name], size, frames if type(frames) is int else None)
    return call


_SIZE = ("height", "width")


def _kind(arguments: Arguments, name: str) -> str | None:
    return arguments[name].kind if name in arguments else None


def _opened(value: Any, argument: Argument, size: Size | None, frames: int | None) -> Any:
    """As `opened`, and a mapping as the record that the argument takes."""
    if argument.kind != RECORD:
        return opened(value, argument, size, frames)
    if isinstance(value, list):
        return [_opened(each, argument, size, frames) for each in value]
    if not isinstance(value, Mapping) or argument.record is None:
        return value
    fields = arguments_of(argument.record)
    return argument.record(**{name: opened(each, fields[name], size, frames) for name, each in value.items()})


def _table(source: Inputs, error: type[QuantError]) -> tuple[Path | None, Iterator[Mapping[str, Any]]]:
    """Where the paths of a source start, and its rows."""
    if not isinstance(source, str | Path):
        return Path(), iter([{"prompt": each} if isinstance(each, str) else each for each in source])
    path = Path(source)
    base = path if is_folder(path) else path.parent if path.suffix else None
    return base, iter(read_table(source, "inputs", error=error))


def _values(cells: Mapping[str, Any], arguments: Arguments, base: Path | None) -> Iterator[tuple[str, Any]]:
    """The cells of a row by argument; empty ones are absent."""
    if not isinstance(cells, Mapping):
        raise CalibrationError(f"must have columns, got {shown(cells)}")
    column = None
    if "prompt" in arguments and "prompt" not in cells:
        column = next((name for name in COLUMNS if name in cells and name not in arguments), None)
    for cell, value in cells.items():
        name = "prompt" if cell == column else cell
        if value is None or (isinstance(value, float) and math.isnan(value)):  # an empty cell of numbers in a .csv
            continue
        argument = arguments.get(name)
        if argument is None:
            yield name, value
        elif argument.kind == RECORD:
            yield name, _records(value, argument, base)
        elif argument.kind in FILES:
            _check_file(value, argument)
            yield name, located(value, base)
        else:
            yield name, clean(value) if isinstance(value, str) else value


def _check_file(value: Any, argument: Argument) -> None:
    if isinstance(value, bool | int | float):
        what = "a .safetensors file" if argument.kind == TENSOR else "a file"
        raise CalibrationError(f"'{argument.name}' is {argument.kind}: name {what}, got {shown(value)}")


def _records(value: Any, argument: Argument, base: Path | None) -> Any:
    """An object, or a list of such, with the media in it located."""
    if isinstance(value, list | tuple):
        return [_records(each, argument, base) for each in value]
    if not isinstance(value, Mapping) or argument.record is None:
        return value
    fields = arguments_of(argument.record)
    stranger = next((name for name in value if name not in fields), None)
    if stranger is not None:
        raise CalibrationError(f"'{argument.name}': has no {shown(stranger)}; it takes {in_words(fields)}")
    lacking = next((name for name, each in fields.items() if each.required and value.get(name) is None), None)
    if lacking is not None:
        raise CalibrationError(f"'{argument.name}': needs '{lacking}'; it takes {in_words(fields)}")
    return {
        name: located(each, base) if fields[name].kind in FILES else each
        for name, each in value.items()
        if each is not None
    }
