"""What a metric is: one object that scores a video, says how its figures are shown, and what a candidate loses by it.

A metric is listed in `table.METRICS`, and nowhere else: scoring, results, verdicts and the report loop over that table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from quant.eval.frames import Frames
from quant.eval.metrics.intervals import Estimate, mean_estimate, paired_ratio

T = TypeVar("T")
Kind = Literal["paired", "own", "set", "other"]
#: What is recorded of one video: a figure (None: none, or infinite), or the answers by attribute, right or wrong.
Score = float | None | dict[str, bool]


class Video:
    """One video to score.

    Attributes:
        frames: [F, H, W, 3] in 0..1.
        prompt: that it was made of.
        original: the original's frames of the same prompt and noise; None where the video is the original's.
    """

    def __init__(self, frames: Frames, prompt: str, original: Frames | None = None) -> None:
        self.frames, self.prompt, self.original = frames, prompt, original
        self._seen: dict[str, Any] = {}

    @property
    def reference(self) -> Frames:
        """The original's frames. Raises ValueError of the original itself, which no paired metric scores."""
        if self.original is None:
            raise ValueError("the original is not compared with itself")
        return self.original

    def once(self, what: str, look: Callable[[], T]) -> T:
        """What `look` returns, called for the first metric that asks for `what`: a network sees a video once."""
        if what not in self._seen:
            self._seen[what] = look()
        return cast("T", self._seen[what])


@dataclass(frozen=True, kw_only=True)
class Display:
    """How the figures of a metric are shown; all there is of a metric that is in some results and not known here.

    Attributes:
        key: its name in the results.
        title: in words.
        heading: of its column on a terminal; empty for the title.
        short: its name within a sentence, the same for versions of one metric; empty where none names it.
        unit: " dB" or empty.
        digits: after the point; a terminal shows three at most.
        higher: True where a higher value is closer to what is wanted.
        interval: does a terminal show its interval?
        identical: does None in the results stand for an infinite figure, which identical videos have?
        answers: is a video's score its right and wrong answers, and their share the figure?
    """

    key: str
    title: str
    heading: str = ""
    short: str = ""
    unit: str = ""
    digits: int = 4
    higher: bool = True
    interval: bool = False
    identical: bool = False
    answers: bool = False

    kind: ClassVar[Kind] = "other"

    def value(self, score: Score) -> float | None:
        """The figure of a recorded score."""
        if isinstance(score, dict):
            return sum(score.values()) / len(score) if score else None
        return score


@dataclass(frozen=True, kw_only=True)
class Metric(Display, ABC):
    """A metric of single videos.

    Attributes:
        network: the name of the network it looks through, as `NetworkKind.load` returns it; None where it needs none.
        loss_words: what its loss is, for the report; empty where that is what is lacking to the original's own value.
    """

    network: str | None = None
    loss_words: str = ""

    def applies(self, video: Video) -> bool:
        """Has such a video this figure at all?"""
        return True

    def truncates(self, prompt: str, network: Any) -> bool:
        """Is the prompt too long for it, so that only the beginning counts?"""
        return False

    @abstractmethod
    def score(self, video: Video, network: Any) -> Score:
        """The score of a video; infinite where two videos are identical and the metric says so.

        Args:
            video: with the original's frames, where the metric is paired.
            network: of the name `network`; None where that is None.
        """

    @abstractmethod
    def loss(self, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
        """What a candidate loses, from one value a sample, as a share of the original.

        Of metrics that the original itself has, where higher is better, it is 1 - ratio. Paired metrics are a distance
        from the original already: 1 - SSIM, LPIPS itself, and of PSNR the root mean square error in units of the
        range, 10^(-PSNR/20) for each video (1% is 40 dB, 0.1% is 60 dB).

        Args:
            candidate: its values.
            original: the original's own; None where it has none.

        Raises:
            ValueError: a value is missing that the loss needs.
        """

    def _known(self, values: Sequence[float | None]) -> list[float]:
        known = [value for value in values if value is not None]
        if len(known) != len(values):
            raise ValueError(f"{len(values) - len(known)} samples have no {self.key}")
        return known


@dataclass(frozen=True, kw_only=True)
class Paired(Metric):
    """A metric of a video against the original's of the same prompt and noise: a distance by itself."""

    kind: ClassVar[Kind] = "paired"

    @abstractmethod
    def lost(self, value: float) -> float:
        """The loss of one video, by its figure: 0 where nothing differs."""

    def loss(self, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
        if self.identical:  # where nothing differs there is no figure and no loss
            return mean_estimate([0.0 if value is None else self.lost(value) for value in candidate])
        return mean_estimate([self.lost(value) for value in self._known(candidate)])


@dataclass(frozen=True, kw_only=True)
class Own(Metric):
    """A metric of a model's own videos, of which higher is better: the loss is what is lacking to the original's."""

    kind: ClassVar[Kind] = "own"

    def loss(self, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
        values = self._known(candidate)
        if original is None:
            raise ValueError(f"a loss by {self.key} needs the original's own values")
        ratio = paired_ratio(values, self._known(original))
        value, low, high = (None if share is None else 1 - share for share in (ratio.value, ratio.high, ratio.low))
        return Estimate(value, low, high, ratio.n)


@dataclass(frozen=True, kw_only=True)
class SetDistance(ABC):
    """A distance of two sets of videos, of the features that an extractor finds in each.

    Attributes:
        prefix: of its two entries in the results, `to_original` and `to_real`.
        remark: on how to read it, for the report.
    """

    prefix: str
    remark: str

    kind: ClassVar[Kind] = "set"

    @abstractmethod
    def title(self, key: str) -> str:
        """Names it in words, with the extractor's name; `key` is that of the sets in the results, "fvd:i3d"."""

    @abstractmethod
    def between(self, a: Frames, b: Frames, *, paired: bool, ddof: int) -> Mapping[str, Any] | float:
        """The distance of features [Na, D] and [Nb, D], as the results have it.

        Args:
            a, b: the features; two vectors or more each.
            paired: does row i of both come from the same prompt and noise?
            ddof: what the covariance's divisor is less than N, by the extractor's convention.
        """


def check_features(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Features [Na, D] and [Nb, D] in float64, as every distance of sets takes them.

    Raises ValueError for other shapes, fewer than two vectors and values that are not finite.
    """
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.shape[1]:
        raise ValueError(f"features of shape {one.shape} and {other.shape} cannot be compared")
    if min(len(one), len(other)) < 2:
        raise ValueError("a set of one video cannot be compared: two or more are needed")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("the features hold values that are not finite")
    return one, other
