"""The examples that recipes are measured on, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.quality.candidates import CANDIDATES, Candidate


@dataclass(frozen=True)
class Subject:
    """One example.

    Attributes:
        example: its name in `quant.eval.examples`.
        clips: how many videos are made. A row a video, the first ones; where there are fewer rows, they are gone
            through again, from other noise.
        samples: how many of its other rows are calibrated on.
        batch: prompts a call, each from noise that is made beforehand, where the pipeline takes it; None for a row a
            call, which draws its own noise from a generator.
        steps: are steps towards recipes measured, too? They are written for a model without convolutions.
    """

    example: str
    clips: int
    samples: int
    batch: int | None = None
    steps: bool = False

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is compared on it."""
        return tuple(each for each in CANDIDATES if self.steps or not each.is_step)

    @property
    def figure(self) -> str:
        """Its name as sections of figures have it."""
        return self.example.replace("-", "_")


SUBJECTS = (
    # 64 prompts, each from two noises: with 64 videos a difference of 1.4 dB may be one of none.
    Subject("shapes", clips=128, samples=32, batch=8, steps=True),
    # Edits of given videos; there are 16 to calibrate on.
    Subject("gen1", clips=16, samples=16),
    # The same network, three times the work a video: both halves of the guidance, and every step.
    Subject("gen1-text", clips=16, samples=16),
)


def subject(name: str) -> Subject:
    """The one of that example."""
    return next(each for each in SUBJECTS if each.example == name)
