"""VBench's scores of a model's videos, by its own program and read from the files that it writes.

Z. Huang et al., "VBench: comprehensive benchmark suite for video generative models", CVPR 2024; version 0.1.5 of
github.com/Vchitect/VBench. It pins old packages, so it is no dependency and runs in an environment of its own. It runs
on CUDA only, and downloads its networks when it first needs them.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.progress import Progress, silent
from quant.files.json_files import read_value

#: VBench in an environment that uv makes for it; its old requirements need an old Python.
COMMAND = ("uvx", "--python", "3.10", "--from", "vbench==0.1.5", "vbench")
#: What VBench rates of any video, and looks at no prompt for.
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
#: Dimensions whose single videos VBench rates from 0 to 100 while their mean is from 0 to 1.
_PERCENT = ("imaging_quality",)
#: VBench hands its arguments to a shell within double quotes, where these mean something.
_SHELL = '"$`\\!\n'

#: Runs a program: its exit status, and what it printed.
Execute = Callable[[Sequence[str]], tuple[int, str]]


def execute(command: Sequence[str]) -> tuple[int, str]:
    """Runs a program to its end; its exit status, and its output with its errors."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def run_vbench(
    videos: Path,
    samples: Collection[str],
    *,
    dimensions: Sequence[str] = DIMENSIONS,
    command: Sequence[str] = COMMAND,
    execute: Execute = execute,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """VBench's scores of one model's videos in its mode "custom_input", as `parse_results` returns them.

    VBench rates every .mp4 of a folder, so it gets one with links to the samples alone and not to their previews.

    Args:
        videos: a folder with ID.mp4 for each sample.
        samples: their ids.
        dimensions: of `DIMENSIONS`; VBench is started once for each, also where one is named twice.
        command: how VBench is started, up to "evaluate".
        execute: runs it; tests give another.
        progress: called for every dimension that is done.

    Raises:
        QuantError: no program, no video, an unknown dimension, or VBench failed or wrote something else.
    """
    dimensions = list(dict.fromkeys(dimensions))
    unknown = [each for each in dimensions if each not in DIMENSIONS]
    if unknown or not dimensions:
        raise QuantError(f"VBench's dimensions {unknown}: choose from {', '.join(DIMENSIONS)}")
    if shutil.which(command[0]) is None:
        raise QuantError(f"{command[0]}: not found; VBench needs an environment of its own, which uv makes: install uv")
    missing = [sample for sample in samples if not (videos / f"{sample}.mp4").is_file()]
    if missing or not samples:
        raise QuantError(f"{videos}: {len(missing)} of {len(samples)} videos are not there; generate them first")
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="vbench-") as made:
        if any(each in made for each in _SHELL):
            raise QuantError(f"{made}: VBench cannot use this folder's name; set TMPDIR to a plainer one")
        folder = Path(made) / "videos"
        folder.mkdir()
        for sample in samples:
            (folder / f"{sample}.mp4").symlink_to((videos / f"{sample}.mp4").resolve())
        for index, dimension in enumerate(dimensions):
            out = Path(made) / dimension
            asked = {"videos_path": folder, "dimension": dimension, "output_path": out, "mode": "custom_input"}
            options = [part for name, value in asked.items() for part in (f"--{name}", str(value))]
            status, output = execute([*command, "evaluate", *options])
            files = sorted(out.glob("*_eval_results.json"))
            if status != 0 or len(files) != 1:  # VBench exits with 0 also where the program that it starts fails
                last = [line.strip() for line in output[-2000:].splitlines() if line.strip()][-3:]
                raise QuantError(f"VBench wrote no {dimension} of {videos}; it said last: {' | '.join(last)}")
            scores = parse_results(files[0], samples)
            if list(scores) != [dimension]:
                raise QuantError(f"{files[0]}: holds {', '.join(scores)}, not {dimension}; use VBench 0.1.5")
            found |= scores
            progress(f"VBench {dimension}", index + 1, len(dimensions))
    return found


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
