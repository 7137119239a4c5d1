"""What a sample's video was made from besides its prompt: the pictures and videos that its inputs name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.eval.results.recorded import Recorded
from quant.eval.storage.folder import RunFolder
from quant.eval.storage.kept_inputs import kept_row
from quant.files.videos import decoded
from quant.pipelines.media import Media, files_in

Bytes = npt.NDArray[np.uint8]


def sources(recorded: Recorded, sample: Mapping[str, Any], frames: int | None = None) -> dict[str, Bytes | str]:
    """By argument, the first `frames` of what a run kept of a sample's files, [F, H, W, 3]; or why they are not shown.

    A sample of a prompt alone has none, and tensors are not looked at.
    """
    inputs = sample.get("inputs") or {}
    found: dict[str, Bytes | str] = {}
    for name, value in kept_row(RunFolder(recorded.folder), json.dumps(inputs), 1).values.items():
        files = [part for media in files_in(value) if not media.name.endswith(".safetensors") for part in media.parts()]
        if files:
            found[name] = _frames(files, frames)
    return found


def _frames(files: list[Media], limit: int | None) -> Bytes | str:
    """The frames of files one after the other: a picture is a video of one frame."""
    try:
        every = (frame for file in files for frame in decoded(file.content(), name=file.name))
        taken = list(itertools.islice(every, limit))
    except QuantError as error:
        return str(error)
    if len({frame.shape for frame in taken}) != 1:
        return f"{len(taken)} frames of different sizes"
    return np.stack(taken)
