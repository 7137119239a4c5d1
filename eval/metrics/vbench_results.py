"""What VBench 0.1.5 writes: `*_eval_results.json`, {dimension: [score, [{"video_path", "video_results"}, ...]]}."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.json_files import read_value

#: Dimensions whose single videos VBench rates from 0 to 100 while their mean is from 0 to 1.
_PERCENT = ("imaging_quality",)


def parse_results(file: Path, samples: Collection[str]) -> dict[str, dict[str, Any]]:
    """The scores of one of VBench's results files.

    Args:
        file: as VBench wrote it.
        samples: the ids of the videos that were given to it, each called ID.mp4; every dimension must have them all.

    Returns:
        {dimension: {"score": over all videos, "videos": {sample id: its own}}}, both in VBench's 0 to 1; a yes or no
        of a video ("dynamic_degree") is 1 or 0.

    Raises:
        QuantError: no such file, or another content.
    """
    try:
        body = read_value(file, QuantError, missing="No such file")
    except QuantError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise QuantError(f"{file}: cannot be read as VBench's results ({reason}); run VBench again") from None
    if not isinstance(body, dict) or not body:
        raise QuantError(f"{file}: no object with a dimension in it; run VBench again")
    return {str(name): _dimension(file, str(name), found, samples) for name, found in body.items()}


def _dimension(file: Path, name: str, found: object, samples: Collection[str]) -> dict[str, Any]:
    where = f"{file}: {name}"
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
        raise QuantError(f"{where}: not a score and a list of videos, as VBench 0.1.5 writes; use that version")
    videos: dict[str, float] = {}
    for each in found[1]:
        if not isinstance(each, dict) or not isinstance(each.get("video_path"), str):
            raise QuantError(f"{where}: an entry without a video_path; use VBench 0.1.5")
        path = Path(each["video_path"])
        rated = _number(f"{where}: {path.name}", each.get("video_results"))
        videos[path.stem] = rated / 100 if name in _PERCENT else rated
    if set(videos) != set(samples) or len(found[1]) != len(videos):
        raise QuantError(f"{where}: {len(found[1])} videos that are not the {len(samples)} given; run VBench again")
    return {"score": _number(where, found[0]), "videos": videos}


def _number(where: str, value: object) -> float:
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise QuantError(f"{where}: {value!r} is no finite number; run VBench again")
    return float(value)
