"""Features of real clips, kept like those of videos: the other side of a distance to real videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quant.eval.runs.clips import Clip
from quant.eval.runs.files import whole_file
from quant.eval.runs.folder import RunFolder
from quant.eval.runs.networks import Networks
from quant.eval.runs.ranks import Ranks
from quant.eval.runs.video_files import read_video


def keep_references(
    run: RunFolder, clips: Iterable[Clip], frames: int, networks: Networks, these: Ranks
) -> dict[str, npt.NDArray[np.float32]]:
    """Takes the features [N, D] of the first `frames` of each clip, by network's name, in the clips' order.

    Of several processes each takes its part, and all know the whole at the end. No frames are skipped or repeated.

    Raises:
        QuantError: a clip cannot be decoded or is shorter; names it.
    """
    mine = []
    for number, clip in enumerate(clips):
        if number % these.world == these.rank:
            _keep(run, clip, frames, networks)
            mine.append((number, clip.id))
    ids = [known for _, known in sorted(pair for part in these.gather(mine) for pair in part)]
    return {
        name: np.stack([np.load(_path(run, name, known, frames)) for known in ids])
        for name in networks.extractors
        if ids
    }


def _path(run: RunFolder, name: str, clip: str, frames: int) -> Path:
    return run.features(name, "references", f"{clip}-{frames}")


def _keep(run: RunFolder, clip: Clip, frames: int, networks: Networks) -> None:
    missing = [name for name in networks.extractors if not _path(run, name, clip.id, frames).is_file()]
    if not missing:
        return
    video: npt.NDArray[np.float32] = (read_video(clip.data, frames, name=clip.name) / 255).astype(np.float32)
    for name in missing:
        with whole_file(_path(run, name, clip.id, frames)) as path, path.open("wb") as file:
            np.save(file, np.asarray(networks.extractors[name](video), dtype=np.float32))
