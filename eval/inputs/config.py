"""What an evaluation is asked to do, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import quant
from quant.eval.networks.kinds import KINDS
from quant.files.video_files import FPS

VERSION = 1
ORIGINAL = "original"
#: Calls of each pipeline that are timed, where nothing else is given.
ROUNDS = 5


@dataclass(frozen=True)
class SpeedSettings:
    """How pipelines are timed; None where nothing is given.

    Attributes:
        rounds: calls of each; `ROUNDS` where none are given.
        compile: whether the transformer is compiled; no where nothing is given.
        gpu: predict a step on this GPU, too, by the roofline model of `quant bench block`.
    """

    rounds: int | None = None
    compile: bool | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class EvaluationConfig:
    """One evaluation. Paths are absolute; what is not a path on this machine is the id of a model hub.

    Attributes:
        name: of the run's folder, which also gets the first digits of its key.
        model: the original, a pipeline folder or a hub id.
        candidates: folder or hub id by name.
        prompts: a file, folder or data set id, or the prompts themselves.
        inputs: instead of prompts, a table whose columns are arguments of the pipeline's call.
        samples: how many prompts or rows, the first ones; None for all.
        seeds: the i-th prompt is made with `seed + i` for each of them.
        settings: over the model's own.
        dtype, device: None for float32 on a CPU and bfloat16 elsewhere, and for a GPU where there is one.
        references: real clips: a folder of them, or a file, folder or id of a data set with a column "video".
        reference_samples: how many of them, the first ones; None for all.
        metrics: networks to score with, by the key of their kind; of a kind that is absent, what is on this machine.
        speed: None where nothing is to be timed.
        sensitivity: a file of `quant sensitivity` by the candidate's name.
        fps: frames a second of the files that players show, None for `FPS`; no metric depends on it.
    """

    name: str
    model: str
    candidates: Mapping[str, str]
    prompts: str | tuple[str, ...] = ()
    inputs: str | None = None
    samples: int | None = None
    seeds: tuple[int, ...] = (0,)
    settings: quant.GenerationSettings = field(default_factory=quant.GenerationSettings)
    dtype: str | None = None
    device: str | None = None
    references: str | None = None
    reference_samples: int | None = None
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    speed: SpeedSettings | None = field(default_factory=SpeedSettings)
    sensitivity: Mapping[str, str] = field(default_factory=dict)
    fps: float | None = None

    @property
    def frame_rate(self) -> float:
        """Frames a second of the files that players show."""
        return FPS if self.fps is None else self.fps

    def after(self, earlier: EvaluationConfig) -> EvaluationConfig:
        """This one with the candidates of an earlier configuration of the same run, and all that only that one says."""
        speed = self.speed
        if speed == SpeedSettings():
            speed = earlier.speed
        elif speed is not None and earlier.speed is not None:
            speed = _over(earlier.speed, speed)
        clips = self if self.references is not None else earlier
        return replace(
            self,
            candidates={**earlier.candidates, **self.candidates},
            references=clips.references,
            reference_samples=clips.reference_samples if self.reference_samples is None else self.reference_samples,
            metrics={**earlier.metrics, **self.metrics},
            speed=speed,
            sensitivity={**earlier.sensitivity, **self.sensitivity},
            fps=earlier.fps if self.fps is None else self.fps,
        )

    def to_dict(self) -> dict[str, Any]:
        """The keys and values of a YAML file; `from_dict` reads them back."""
        metrics = {
            kind.key: list(self.metrics[kind.key]) if kind.several else self.metrics[kind.key][0]
            for kind in KINDS
            if kind.key in self.metrics
        }
        speed = False if self.speed is None else {k: v for k, v in asdict(self.speed).items() if v is not None}
        body = {
            "version": VERSION,
            "name": self.name,
            "model": self.model,
            "candidates": dict(self.candidates),
            "prompts": None if self.inputs else self.prompts if isinstance(self.prompts, str) else list(self.prompts),
            "inputs": self.inputs,
            "samples": self.samples,
            "seeds": list(self.seeds),
            "settings": self.settings.given(),
            "dtype": self.dtype,
            "device": self.device,
            "references": self.references,
            "reference_samples": self.reference_samples,
            "metrics": metrics,
            "speed": speed,
            "sensitivity": dict(self.sensitivity),
            "fps": self.fps,
        }
        return {name: value for name, value in body.items() if value is not None}


def _over(earlier: SpeedSettings, later: SpeedSettings) -> SpeedSettings:
    """What `later` says, and of the rest what `earlier` does; None says nothing."""
    return replace(earlier, **{name: value for name, value in vars(later).items() if value is not None})
