"""Features of real clips, kept like those of videos: the other side of a distance to real videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quant.eval.inputs.clips import Clip
from quant.eval.runs.networks import Networks
from quant.eval.runs.processes import Ranks
from quant.eval.storage.files import file_sha256, read_array, write_array
from quant.eval.storage.folder import REFERENCED, RunFolder
from quant.eval.storage.journal import Record
from quant.files.videos import read_video

Records = Mapping[tuple[str, str], list[Record]]
#: Stands in the place of a model's fingerprint.
_MODEL = "references"


def keep_references(
    run: RunFolder, clips: Iterable[Clip], frames: int, networks: Networks, these: Ranks
) -> dict[str, npt.NDArray[np.float32]]:
    """Takes the features [N, D] of the first `frames` of each clip, by network's name, in the clips' order.

    Of several processes each takes its part, and all know the whole at the end. No frames are skipped or repeated.

    Raises:
        QuantError: a clip cannot be decoded or is shorter; names it.
    """
    known = run.records(REFERENCED)

    def keep() -> list[tuple[int, str, dict[str, str]]]:
        return [
            (number, clip.id, _keep(run, clip, frames, networks, known))
            for number, clip in enumerate(clips)
            if number % these.world == these.rank
        ]

    mine = these.together(keep)
    every = sorted((entry for part in these.gather(mine) for entry in part), key=lambda entry: entry[0])

    def read(name: str) -> npt.NDArray[np.float32]:
        return np.stack([read_array(_path(run, name, clip, frames), sha256[name]) for _, clip, sha256 in every])

    return these.together(lambda: {name: read(name) for name in networks.extractors if every})


def _path(run: RunFolder, name: str, clip: str, frames: int) -> Path:
    return run.features(name, _MODEL, f"{clip}-{frames}")


def _keep(run: RunFolder, clip: Clip, frames: int, networks: Networks, known: Records) -> dict[str, str]:
    """The SHA-256 of a clip's features by network's name; they are taken where they are not there unchanged."""
    sample = f"{clip.id}-{frames}"
    there = {name: file_sha256(_path(run, name, clip.id, frames)) for name in networks.extractors}
    for record in known.get((_MODEL, sample), ()):
        if record["scoring"] == networks.key and record["features"] == there:
            return dict(record["features"])
    if not networks.extractors:
        return {}
    video: npt.NDArray[np.float32] = (read_video(clip.data, frames, name=clip.name) / 255).astype(np.float32)
    features = {
        name: write_array(_path(run, name, clip.id, frames), np.asarray(extractor(video), dtype=np.float32))
        for name, extractor in networks.extractors.items()
    }
    run.append(REFERENCED, {"model": _MODEL, "sample": sample, "scoring": networks.key, "features": features})
    return features
