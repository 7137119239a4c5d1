"""The parts of a demo's work, their sizes, and how much of all of it is done."""

from __future__ import annotations

from collections.abc import Sequence

from quant.eval.inputs.config import ORIGINAL
from quant.eval.progress import Progress

#: How many times a step of the original a step takes in reference arithmetic, and one that statistics are taken of.
_REFERENCE, _WATCHED = 3, 2
#: Videos by which each model is timed apart from the rounds: the first call, its operations, its memory.
_ONCE = 3
SCORING, TIMING, REPORT = "scoring", "timing every model", "making the report"


def calibrating(recipe: str) -> str:
    """What a recipe's part is called."""
    return f"calibrating {recipe}"


def videos(model: str) -> str:
    """What a model's part is called."""
    return f"making videos with {model}"


class Work:
    """Reports (part, done, all) in units that take about as long as a denoising step of the original."""

    def __init__(
        self, recipes: Sequence[str], *, samples: int, clips: int, steps: int, rounds: int, progress: Progress
    ) -> None:
        """`samples` inputs are calibrated on; `rounds` videos of each model are timed."""
        models = {ORIGINAL: 1, **dict.fromkeys(recipes, _REFERENCE)}
        self._sizes = {
            **{calibrating(recipe): _WATCHED * samples * steps for recipe in recipes},
            **{videos(model): clips * steps * slow for model, slow in models.items()},
            SCORING: len(models) * clips,
            TIMING: sum((_ONCE + rounds) * steps * slow for slow in models.values()),
            REPORT: 5 * steps,
        }
        self._models, self._rounds, self._progress = tuple(models), rounds, progress
        self._timed = 0

    def begin(self, part: str, share: float = 0.0) -> None:
        """Says that this part has begun, or that a share of it is done; all before it is done."""
        before = 0
        for name, size in self._sizes.items():
            if name == part:
                number = list(self._sizes).index(name) + 1
                done = before + round(share * size)
                self._progress(f"{number} of {len(self._sizes)}: {part}", done, sum(self._sizes.values()))
            before += size

    def evaluated(self, what: str, done: int, total: int) -> None:
        """Takes the reports of `run_evaluation`."""
        if what in self._models:
            self.begin(videos(what), done / total)
        elif what.endswith(", scores"):
            place = self._models.index(what.removesuffix(", scores"))
            self.begin(SCORING, (place + done / total) / len(self._models))
        elif not what.endswith("MiB read"):
            self._timed += 1
            # Of each model: loaded, called once, each round, its operations, its memory.
            self.begin(TIMING, min(1.0, self._timed / (len(self._models) * (4 + self._rounds))))
