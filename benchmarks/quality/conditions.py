"""What is the same for every candidate: model, prompts, seeds and initial latents, and the arithmetic, float32."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import quant
from quant.eval.examples import example
from quant.eval.frames import Frames
from quant.eval.videos.generation import InitialLatents, generate, initial_latents
from quant.prompts import read_prompts

BATCH = 8
PACKAGES = ("torch", "diffusers", "nvidia-modelopt", "sdnq")


@dataclass(frozen=True)
class Conditions:
    """How every video is made.

    Attributes:
        model: the pipeline folder.
        prompts: of the videos; none of them is calibrated on.
        calibration: a file of other prompts.
        samples: how many of those are run.
        settings: the model's own.
    """

    model: Path
    prompts: tuple[str, ...]
    calibration: Path
    samples: int
    settings: quant.GenerationSettings

    @classmethod
    def of_example(cls, clips: int | None = None, samples: int = 32) -> Conditions:
        """Those of the example, whole or, to try something out, with its first `clips` prompts."""
        shapes = example()
        settings = quant.GenerationSettings.read(shapes.model)
        return cls(shapes.model, tuple(read_prompts(shapes.inputs, clips)), shapes.calibration, samples, settings)

    def pipeline(self, folder: Path | None = None) -> Any:
        """A pipeline as stock diffusers loads it, computing in float32: the original, or the one in `folder`."""
        from diffusers import DiffusionPipeline

        import quant.diffusers  # noqa: F401  (teaches diffusers the checkpoints)

        pipe = DiffusionPipeline.from_pretrained(folder or self.model, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def latents(self, pipe: Any) -> InitialLatents:
        """Prompt i starts from the noise of seed i."""
        return initial_latents(pipe, self.settings.for_pipeline(pipe), range(len(self.prompts)))

    def videos(self, pipe: Any, on_step: Callable[[int, int], None] = lambda done, total: None) -> Frames:
        """Every prompt's video, [N, F, H, W, 3] in 0..1."""
        call = self.settings.for_pipeline(pipe)
        return generate(pipe, self.prompts, self.latents(pipe), call, batch=BATCH, on_step=on_step)

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
        return {
            "model": "/".join(self.model.parts[-2:]),
            "settings": self.settings.given(),
            "batch": BATCH,
            "prompts": list(self.prompts),
            "calibration_prompts": read_prompts(self.calibration, self.samples),
        }

    @property
    def sha256(self) -> str:
        """Of everything above and of the model's files."""
        files = {
            path.relative_to(self.model).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.model.rglob("*"))
            if path.is_file()
        }
        return hashlib.sha256(json.dumps([self.to_dict(), files]).encode()).hexdigest()


def versions() -> Mapping[str, str]:
    """Of what does the arithmetic; a package that is not there is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
