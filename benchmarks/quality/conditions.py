"""What is the same for every candidate: model, inputs, seeds and initial noise, and the arithmetic, float32."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import quant
from benchmarks.quality.subjects import Subject
from quant.eval.demo_rows import rows_of
from quant.eval.examples import example
from quant.eval.frames import Frames
from quant.eval.videos.generation import InitialLatents, generate, initial_latents
from quant.eval.videos.one_call import run_once
from quant.families.table import DENOISERS
from quant.files.videos import read_video
from quant.pipelines.media import files_in
from quant.pipelines.rows import Row, call_of

PACKAGES = ("torch", "diffusers", "nvidia-modelopt", "sdnq")


@dataclass(frozen=True)
class Conditions:
    """How every video is made.

    Attributes:
        subject: the example, and how much of it.
        model: the pipeline folder.
        rows: inputs of the videos, each as often as it makes one; none of them is calibrated on.
        calibration: other inputs.
        settings: the model's own.
    """

    subject: Subject
    model: Path
    rows: tuple[Row, ...]
    calibration: tuple[Row, ...]
    settings: quant.GenerationSettings

    @classmethod
    def of(cls, subject: Subject, clips: int | None = None) -> Conditions:
        """Those of an example, as much of it as is measured or, to try something out, `clips` videos."""
        found = example(subject.example)
        none = quant.GenerationSettings()
        count = clips or subject.clips
        rows = islice(cycle(rows_of(found.model, found.inputs, none, count)), count)
        calibration = rows_of(found.model, found.calibration, none, subject.samples)
        settings = quant.GenerationSettings.read(found.model)
        return cls(subject, found.model, tuple(rows), tuple(calibration), settings)

    @property
    def prompts(self) -> list[str]:
        """Of the videos."""
        return [row.text for row in self.rows]

    @property
    def calibration_inputs(self) -> list[Mapping[str, Any]]:
        """As `quant.calibrate` takes them."""
        return [row.values for row in self.calibration]

    def pipeline(self, folder: Path | None = None) -> Any:
        """A pipeline as stock diffusers loads it, computing in float32: the original, or the one in `folder`."""
        from diffusers import DiffusionPipeline

        import quant.diffusers  # noqa: F401  (teaches diffusers the checkpoints)

        pipe = DiffusionPipeline.from_pretrained(folder or self.model, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def latents(self, pipe: Any) -> InitialLatents:
        """Prompt i starts from the noise of seed i."""
        return initial_latents(pipe, self.settings.for_pipeline(pipe), range(len(self.rows)))

    def videos(self, pipe: Any, on_step: Callable[[int, int], None] = lambda done, total: None) -> Frames:
        """Every row's video, [N, F, H, W, 3] in 0..1."""
        if self.subject.batch is None:
            return np.stack(
                [
                    run_once(pipe, call_of(row, pipe, self.settings), i, lambda: None, name=row.text).video
                    for i, row in enumerate(self.rows)
                ]
            )
        call = self.settings.for_pipeline(pipe)
        return generate(pipe, self.prompts, self.latents(pipe), call, batch=self.subject.batch, on_step=on_step)

    def sources(self) -> list[Frames]:
        """The videos that rows are edits of, [F, H, W, 3] in 0..1; empty where there are none."""
        given = [next(files_in(row.values), None) for row in self.rows]
        clips = (read_video(media.content(), name=media.name) for media in given if media is not None)
        return [(clip / 255).astype(np.float32) for clip in clips]

    def original(self, cache: Path) -> Frames:
        """The original's videos; made once and kept in the folder `cache`."""
        path = cache / f"original-{self.sha256[:16]}.npy"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            np.save(path, self.videos(self.pipeline()))
        frames: Frames = np.load(path)
        return frames

    def to_dict(self) -> dict[str, Any]:
        """For a results file."""
        body: dict[str, Any] = {
            "model": "/".join(self.model.parts[-2:]),
            "settings": self.settings.given(),
            "batch": self.subject.batch,
            "prompts": self.prompts,
            "calibration_prompts": [row.text for row in self.calibration],
        }
        for name, rows in (("inputs", self.rows), ("calibration_inputs", self.calibration)):
            if not all(row.is_prompt for row in rows):
                body[name] = [row.plain() for row in rows]
        return body

    @property
    def sha256(self) -> str:
        """Of everything above and of the model's files."""
        files = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(self.model)}
        return hashlib.sha256(json.dumps([self.to_dict(), files]).encode()).hexdigest()


def denoiser(pipe: Any) -> tuple[str, nn.Module]:
    """The component of a pipeline that recipes quantize, and its name."""
    return next((name, pipe.components[name]) for name in DENOISERS if pipe.components.get(name) is not None)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files below a folder by their names in it, behind links to folders too."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from ((f"{path.name}/{name}", file) for name, file in _files(path))
        else:
            yield path.name, path


def versions() -> Mapping[str, str]:
    """Of what does the arithmetic; a package that is not there is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
