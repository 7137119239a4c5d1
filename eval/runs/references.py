"""Features of real clips, kept like those of videos: the other side of a distance to real videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from quant.eval.runs.files import file_sha256, whole_file
from quant.eval.runs.folder import RunFolder
from quant.eval.runs.networks import Networks
from quant.eval.runs.video_files import read_video


def features_path(run: RunFolder, name: str, clip: Path, frames: int) -> Path:
    """Where the features of the first `frames` of a clip lie, by the clip's content."""
    return run.features(name, "references", f"{(file_sha256(clip) or '')[:16]}-{frames}")


def keep_features(run: RunFolder, clip: Path, frames: int, networks: Networks) -> None:
    """Takes the features that are missing. No frames are skipped or repeated: a shorter clip is an error.

    Raises:
        QuantError: the clip cannot be decoded or is shorter; names it.
    """
    missing = [name for name in networks.extractors if not features_path(run, name, clip, frames).is_file()]
    if not missing:
        return
    video: npt.NDArray[np.float32] = (read_video(clip, frames) / 255).astype(np.float32)
    for name in missing:
        with whole_file(features_path(run, name, clip, frames)) as path, path.open("wb") as file:
            np.save(file, np.asarray(networks.extractors[name](video), dtype=np.float32))
