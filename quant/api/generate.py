"""`quant.generate`: any pipeline, quantized or not, makes videos of prompts or of rows of inputs, and writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from quant.api.load_pipeline import PipelineFiles, find_pipeline, load_pipeline
from quant.calibration.preparing import checked_call
from quant.devices import find_device
from quant.errors import CalibrationError, QuantError
from quant.fields import MOST_SEED, is_number
from quant.files.encodings import Encoding, encoding_for, encoding_of, suffixes
from quant.files.locks import locked
from quant.files.places import check_apart, check_file_place, check_folder_place, reason
from quant.files.video_files import FPS, comment_of, to_words
from quant.files.whole_files import remove_unfinished_of
from quant.pipelines.arguments import class_name
from quant.pipelines.copying import places_of
from quant.pipelines.making import frame_rate, make_video
from quant.pipelines.rows import Inputs, Row, call_of, read_any
from quant.pipelines.running import failing, own_bar_off, reports_steps, step_count
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.skeleton import in_our_words
from quant.text import shown

_MOST_FPS = 1000


class Clip(NamedTuple):
    """A video that was written: its file, its size, and frames a second."""

    path: Path
    frames: int
    height: int
    width: int
    fps: float


@dataclass(frozen=True)
class Generated:
    """What a call of `generate` left.

    Attributes:
        clips: what it made.
        kept: files that an earlier call of the same request had made.
        summary: how they are encoded.
    """

    clips: tuple[Clip, ...]
    kept: tuple[Path, ...]
    summary: str


def generate(
    model: str | Path,
    out: str | Path,
    *,
    prompt: str | None = None,
    prompts: str | Path | Sequence[str] | None = None,
    inputs: Inputs | None = None,
    base: str | Path | None = None,
    settings: GenerationSettings | None = None,
    seed: int = 0,
    fps: float | None = None,
    lossless: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    fused: bool | None = None,
    force: bool = False,
    progress: bool = True,
) -> Generated:
    """Makes one video of a prompt, or a folder of numbered ones of many prompts or rows of inputs.

    Args:
        model: a pipeline's folder or hub id, quantized or not, or a checkpoint of components alone.
        out: the file to write, .mp4 or .mkv; of `prompts` and `inputs` a folder, which gets 0001.mp4 and so on.
        prompt, prompts, inputs: one of these; the last two as in `quant.calibrate`.
        base: the pipeline that has the components which a checkpoint has not.
        settings: how the pipeline is called; what they do not say is generation.json's, or the pipeline's default.
        seed: of the first video's noise; each next one's is one more.
        fps: frames a second of the files; by default those that the pipeline is asked to make, or else 16.
        lossless: keep every colour as it was made. An .mkv always does, in 16 bits; an .mp4 then in 8.
        dtype: of all that is not packed.
        device: where it runs; CUDA where there is one, else the CPU.
        fused: run quantized denoisers in blocks of fused ops, as `quant.load`; None does as the checkpoint says.
        force: replace files that are there and are of another request; of a prompt, the file whatever it is.
        progress: a bar on stderr.

    A file appears when it is complete. It says, as a hash, which request it was made for: the model's files, the row,
    settings, seed and whatever else a video depends on. Called again after it was killed, a folder's missing videos are
    made, and those of the very same request stay.

    Raises:
        QuantError: wrong input, each in one line, before the model is loaded; something else in the place of a file;
            a pipeline that fails or makes no video.
        KeyboardInterrupt: with what can be done then.
    """
    out = Path(out)
    if not 0 <= seed <= MOST_SEED:
        raise QuantError(f"seed: must be a whole number of 0 to {MOST_SEED}, got {shown(seed)}")
    if fps is not None and not (is_number(fps) and 0 < fps <= _MOST_FPS):
        raise QuantError(f"fps: must be a number above 0, of at most {_MOST_FPS}, got {shown(fps)}")
    if sum(each is not None for each in (prompt, prompts, inputs)) != 1:
        raise QuantError("give one of a prompt, --prompts FILE and --inputs FILE: what the video is made of")
    one = prompt is not None
    encoding = encoding_of(out, lossless=lossless) if one else encoding_for(lossless=lossless)
    if not one and out.suffix.lower() in suffixes():
        raise QuantError(f"{out}: many videos are a folder of numbered files; give --out a folder's name")
    if find_spec("av") is None:
        raise QuantError("writing videos needs PyAV: pip install av")
    where = find_device(device)
    files = find_pipeline(model, base)
    check_apart(out, [Path(model), *places_of(files.source), *files.parts.values()])
    how = GenerationSettings.read(files.source.folder).merged(**(settings or GenerationSettings()).given())
    name, arguments = checked_call(files.source, how)
    given = [prompt] if prompt is not None else prompts
    rows = read_any(given, inputs, arguments, name, None, settings=how, enough=False)
    request = _Request(files, files.seen(), how, dtype, where, fused, None if fps is None else float(fps), encoding)
    place = check_file_place(out) if one else check_folder_place(out)
    paths = [place] if one else [place / f"{number:04d}{encoding.suffix}" for number in range(1, len(rows) + 1)]
    seeds = range(seed, seed + len(rows))
    jobs = [_Job(*each, request.key(*each[:2])) for each in zip(rows, seeds, paths, strict=True)]
    if not place.parent.is_dir():
        raise QuantError(f"{out.parent}: no such folder")
    with locked(place.with_name(f".{place.name}.lock"), str(out)):
        missing = [job for job in jobs if one or not job.is_done()]
        _clear(missing, "" if one else ", and is of another request", force=force)
        clips = _made(request, missing, progress) if missing else ()
    done = {job.path for job in missing}
    return Generated(clips, tuple(job.path for job in jobs if job.path not in done), encoding.summary)


class _Job(NamedTuple):
    """One video to make: its row, seed and file, and a hash of all that it depends on."""

    row: Row
    seed: int
    path: Path
    key: str

    @property
    def comment(self) -> str:
        return f"quant generate {self.key}"

    def is_done(self) -> bool:
        return self.path.is_file() and comment_of(self.path) == self.comment


@dataclass(frozen=True)
class _Request:
    """All that the videos of one call depend on but row and seed."""

    files: PipelineFiles
    seen: list[list[tuple[str, int, int]]]
    settings: GenerationSettings
    dtype: torch.dtype
    device: torch.device
    fused: bool | None
    fps: float | None
    encoding: Encoding

    def key(self, row: Row, seed: int) -> str:
        """A hash by which a video is known again. Of a model's files it has size and time, as a copy is another one."""
        import diffusers

        body = {
            "model": self.seen,
            "row": row.plain(),
            "settings": self.settings.given(),
            "seed": seed,
            "runs": [str(self.dtype), self.device.type, self.fused],
            "file": [self.fps, self.encoding.summary],
            "versions": [torch.__version__, diffusers.__version__],
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def load(self) -> Any:
        with in_our_words(f"{self.files.source.folder}: diffusers cannot load it"):
            pipe = load_pipeline(self.files, self.dtype, fused=self.fused)
        return pipe.to(self.device)


def _clear(jobs: Sequence[_Job], why: str, *, force: bool) -> None:
    """Refuses files that are in the way, and removes what killed runs left unfinished."""
    for job in jobs:
        if job.path.exists() and not force:
            raise QuantError(f"{job.path}: exists{why}; give --force to replace it, or another --out")
        if job.path.exists() and not job.path.is_file():
            raise QuantError(f"{job.path}: is no file that could be replaced; choose another --out")
        try:
            remove_unfinished_of(job.path)
        except OSError as error:
            raise QuantError(f"{job.path}: cannot be written: {reason(error)}") from None


def _made(request: _Request, jobs: Sequence[_Job], progress: bool) -> tuple[Clip, ...]:
    """Makes the videos one after the other, with a bar over all their steps."""
    from tqdm import tqdm

    pipe = request.load()
    reported = reports_steps(pipe)
    steps = step_count(pipe, request.settings) if reported else 1
    clips: list[Clip] = []
    with (
        _goes_on(clips, jobs),
        own_bar_off(pipe),
        tqdm(
            total=len(jobs) * steps,
            desc=f"{len(jobs)} videos" if len(jobs) > 1 else "video",
            unit="step" if reported else "video",
            disable=not progress,
        ) as bar,
    ):

        def step_done(latents: object) -> None:
            bar.update(int(reported and bar.n < (len(clips) + 1) * steps))  # a row may have more steps than the others

        for job in jobs:
            clips.append(_one(request, pipe, job, step_done))
            bar.update(len(clips) * steps - bar.n)  # or fewer: of video-to-video, only the last ones are run
    return tuple(clips)


def _one(request: _Request, pipe: Any, job: _Job, on_step: Callable[[object], None]) -> Clip:
    try:
        call = call_of(job.row, pipe, request.settings)
    except CalibrationError as error:  # of a file
        raise CalibrationError(f"{job.row}: {error}") from None
    with failing(f"{class_name(pipe)} fails on {job.row}"):
        video = make_video(pipe, call, job.seed, on_step, name=job.row.text)
    fps = request.fps or frame_rate(pipe, call) or FPS
    request.encoding.write(job.path, to_words(video), fps=fps, comment=job.comment)
    frames, height, width, _ = video.shape
    return Clip(job.path, frames, height, width, fps)


@contextmanager
def _goes_on(clips: Sequence[Clip], jobs: Sequence[_Job]) -> Iterator[None]:
    """Says with an interrupt or an error of many videos that those which are made stay."""
    try:
        yield
    except (KeyboardInterrupt, QuantError) as stop:
        if not clips:
            raise
        kept = f"{len(clips)} of {len(jobs)} videos are made, and the same command goes on"
        raise type(stop)(f"{str(stop) or 'interrupted'}; {kept}") from None
