"""Videos side by side: the original, each candidate, and what differs, played together."""

from __future__ import annotations

import base64
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.eval.drawing.markup import Piece, note, swatch
from quant.eval.frames import Frames
from quant.eval.metrics.table import leading
from quant.eval.report.sources import sources
from quant.eval.results.recorded import Recorded, by_worst_candidate, sample_score
from quant.eval.results.words import figure
from quant.files.video_files import read_words, to_frames, write_preview


@dataclass(frozen=True)
class Shown:
    """A sample that is shown, and why: "best", "median", "worst", or several of them."""

    why: str
    sample: Mapping[str, Any]


def players(recorded: Recorded) -> Piece:
    """Rows of videos for the best, the median and the worst sample, by the leading metric of the worst candidate.

    Videos and differences are put into the page. Where one is missing the page says so.
    """
    chosen = selection(recorded)
    if not chosen:
        return Piece(note("No sample was scored against the original, so none is shown."))
    frames = _frames(recorded, chosen)
    pairs = _pairs(recorded, chosen, frames)
    factor = amplification([np.abs(theirs - ours)[None] for ours, theirs in pairs])
    rows = "".join(_row(recorded, shown, frames, factor) for shown in chosen)
    differences = (
        f"Differences are |candidate − original| of the stored frames, times {factor} in every row and clipped; black "
        "is equal. "
    )
    explanation = (
        f"{differences if pairs else ''}Videos here are compressed for browsers; metrics were taken from the frames "
        "before that. Space plays and stops, the arrow keys step."
    )
    return Piece(f'<div class="players">{rows}</div>{note(explanation)}<script>{script()}</script>')


def script() -> str:
    """What makes the rows play: the only script that the report's page lets run."""
    return resources.files("quant.eval.report").joinpath("players.js").read_text(encoding="utf-8")


def selection(recorded: Recorded) -> list[Shown]:
    """The worst, median and best sample by the worst candidate's figure; one that is several is shown once."""
    order = by_worst_candidate(recorded)
    if not order:
        return []
    named: dict[int, list[str]] = {}
    for why, place in (("worst", 0), ("median", (len(order) - 1) // 2), ("best", len(order) - 1)):
        named.setdefault(place, []).append(why)
    return [Shown(" and ".join(why), order[place][1]) for place, why in named.items()]


def stored_frames(path: Path) -> npt.NDArray[np.float32]:
    """The frames that metrics were taken from, [F, H, W, 3] in 0..1.

    Raises:
        QuantError: no such file, or one that cannot be decoded.
    """
    return to_frames(read_words(path))


def difference_video(
    original: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], factor: int, fps: float
) -> bytes:
    """|candidate - original| times `factor`, clipped to 0..1, as an MP4 that browsers play.

    Both are [F, H, W, 3]. Lossy: for looking at, never for measuring.
    """
    return _encoded(to_bytes(np.abs(candidate - original) * factor), fps)


def _encoded(video: npt.NDArray[np.uint8], fps: float) -> bytes:
    """[F, H, W, 3] as an MP4 that browsers play."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_preview(path, video, fps=fps)
        return path.read_bytes()


def to_bytes(video: Frames) -> npt.NDArray[np.uint8]:
    """Values in 0..1 as 0..255, rounded to the nearest; what lies outside is clipped."""
    return np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)


def amplification(differences: Sequence[Frames]) -> int:
    """The power of two, 1..256, that makes a typical one of `differences` [N, F, H, W, 3] (>= 0) visible.

    One factor for all of them, so brightness can be compared. Typical: of each video the value that 1% of its
    own exceed, of those the median. It comes to lie between a half and 1; what exceeds 1 is clipped.
    """
    high = [float(np.quantile(video, 0.99)) for videos in differences for video in videos]
    typical = statistics.median(high) if high else 0.0
    return 256 if typical == 0 else int(min(256, max(1, 2 ** math.floor(math.log2(1 / typical)))))


Stored = Mapping[tuple[str, str], npt.NDArray[np.float32] | str]


def _frames(recorded: Recorded, chosen: Sequence[Shown]) -> Stored:
    """Frames by (model, sample), or why they cannot be read."""
    found: dict[tuple[str, str], npt.NDArray[np.float32] | str] = {}
    for shown in chosen:
        for model in recorded.models:
            path = recorded.folder / "frames" / model["fingerprint"] / f"{shown.sample['id']}.mkv"
            try:
                found[model["name"], shown.sample["id"]] = stored_frames(path)
            except QuantError as error:
                found[model["name"], shown.sample["id"]] = str(error)
    return found


def _pairs(
    recorded: Recorded, chosen: Sequence[Shown], frames: Stored
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    pairs = []
    for shown in chosen:
        ours = frames[recorded.original["name"], shown.sample["id"]]
        for model in recorded.candidates:
            theirs = frames[model["name"], shown.sample["id"]]
            if not isinstance(ours, str) and not isinstance(theirs, str) and ours.shape == theirs.shape:
                pairs.append((ours, theirs))
    return pairs


def _row(recorded: Recorded, shown: Shown, frames: Stored, factor: int) -> str:
    sample = shown.sample
    fps = float((recorded.body.get("provenance") or {}).get("fps") or 16)
    ours = frames[recorded.original["name"], sample["id"]]
    figures = [
        *_sources(recorded, sample, None if isinstance(ours, str) else len(ours), fps),
        _figure(recorded, recorded.original, sample, ""),
    ]
    for model in recorded.candidates:
        theirs = frames[model["name"], sample["id"]]
        figures.append(_figure(recorded, model, sample, _difference(model, ours, theirs, factor, fps)))
    return (
        f'<article class="card row" data-player data-fps="{fps:g}" tabindex="0" '
        f'aria-label="{escape(shown.why)}: {escape(sample["prompt"])}">'
        f'<header><span class="tag">{escape(shown.why)}</span><h3>{escape(sample["prompt"])}</h3>'
        f"<small>seed {sample['seed']}</small></header>"
        f'<div class="videos">{"".join(figures)}</div>'
        '<div class="controls" role="group" aria-label="Playback">'
        '<button type="button" data-do="play">Play</button>'
        '<button type="button" data-do="back" aria-label="One frame back">◂ step</button>'
        '<button type="button" data-do="on" aria-label="One frame on">step ▸</button>'
        '<input type="range" min="0" max="0" value="0" step="1" aria-label="Frame"><output></output></div></article>'
    )


def _sources(recorded: Recorded, sample: Mapping[str, Any], frames: int | None, fps: float) -> list[str]:
    """A figure for each argument whose files the video was made from, the source of an edit or a first picture.

    It is as long as the video, whose frames it is played beside: a picture stands still.
    """
    found = []
    for name, video in sources(recorded, sample, frames).items():
        if isinstance(video, str):
            shown = f'<p class="absent">not shown: {escape(video)}</p>'
        else:
            still = max(0, (frames or 0) - len(video))
            whole = np.pad(video, ((0, still), (0, 0), (0, 0), (0, 0)), mode="edge")
            shown = _video(_encoded(whole, fps), f"source, {name}: {sample['prompt']}")
        found.append(f"<figure><figcaption><b>source</b><span>{escape(name)}</span></figcaption>{shown}</figure>")
    return found


def _figure(recorded: Recorded, model: Mapping[str, Any], sample: Mapping[str, Any], difference: str) -> str:
    value = sample_score(model, sample["id"], leading().key)
    score = "" if value is None else f"<span>{figure(value, leading())}</span>"
    caption = f"<figcaption>{swatch(recorded.place(model))}<b>{escape(model['name'])}</b>{score}</figcaption>"
    path = recorded.folder / "videos" / model["name"] / f"{sample['id']}.preview.mp4"
    return f"<figure>{caption}{_preview(path, model['name'], sample['prompt'])}{difference}</figure>"


def _preview(path: Path, name: str, prompt: str) -> str:
    if not path.is_file():
        return f'<p class="absent">no preview: {escape("/".join(path.parts[-3:]))} is missing</p>'
    return _video(path.read_bytes(), f"{name}: {prompt}")


def _difference(
    model: Mapping[str, Any],
    ours: npt.NDArray[np.float32] | str,
    theirs: npt.NDArray[np.float32] | str,
    factor: int,
    fps: float,
) -> str:
    caption = f'<figcaption class="under">difference × {factor}</figcaption>'
    if isinstance(ours, str) or isinstance(theirs, str):
        return f'{caption}<p class="absent">no difference: the stored frames are missing</p>'
    if ours.shape != theirs.shape:
        return f'{caption}<p class="absent">no difference: the videos differ in size</p>'
    return caption + _video(difference_video(ours, theirs, factor, fps), f"{model['name']}, difference times {factor}")


def _video(mp4: bytes, label: str) -> str:
    data = base64.b64encode(mp4).decode("ascii")
    source = f'src="data:video/mp4;base64,{data}"'
    return f'<video muted playsinline preload="auto" aria-label="{escape(label)}" {source}></video>'
