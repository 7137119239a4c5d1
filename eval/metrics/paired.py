"""One candidate against another over the same samples: differences of pairs, two tests, and what a whole table decides.

What is hard for both cancels in a pair, so differences tell candidates apart that means of each cannot. A table of many
comparisons finds some by chance alone: Holm's correction (1979) keeps the risk of a single wrong one at 5%.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from quant.eval.metrics.exact import sign_test, student_estimate, student_test
from quant.eval.metrics.intervals import MIN_SAMPLES, Estimate

Outcome = Literal["better", "tie", "worse", "not enough samples"]
#: The risk that any verdict of a table is wrong where all are ties.
RISK = 0.05
#: How outcomes are reached, for readers of a table.
WORDS = (
    "better and worse: by a sign test or Student's paired t test, each at half of 5%, after Holm's correction over all "
    "comparisons of the table, and where mean and majority do not contradict each other; all else is a tie"
)


@dataclass(frozen=True)
class Comparison:
    """What a metric says of one candidate against another.

    Attributes:
        difference: the mean of candidate - other in the metric's unit, with Student's interval; of the `n` finite ones.
        better, worse: on how many samples the candidate is better and worse than the other.
        samples: how many there are.
        direction: 1 where the candidate is better, be it by chance, -1 where it is worse, 0 where it is neither.
        probability: of such differences where neither is better; 1 where mean and majority contradict each other.
    """

    difference: Estimate
    better: int
    worse: int
    samples: int
    direction: int
    probability: float

    def reversed(self) -> Comparison:
        """The other against the candidate."""
        found = self.difference
        value, low, high = (None if each is None else -each for each in (found.value, found.high, found.low))
        turned = Estimate(value, low, high, found.n)
        return Comparison(turned, self.worse, self.better, self.samples, -self.direction, self.probability)


def compared(
    candidate: Sequence[float],
    other: Sequence[float],
    *,
    higher: bool = True,
    alike: Sequence[Hashable] | None = None,
) -> Comparison:
    """A candidate against another by the scores of the same samples.

    Args:
        candidate, other: a score a sample, in the same order; infinite ones, of identical videos, count as better or
            worse and are left out of the mean.
        higher: is a higher score better?
        alike: what samples have in common, such as their prompt; those of one are no independent samples, and the mean
            of their differences counts as one. None where all are independent.

    Raises:
        ValueError: lists of different lengths, a score that is no number, no scores at all.
    """
    if len(candidate) != len(other) or not candidate or (alike is not None and len(alike) != len(candidate)):
        raise ValueError(f"{len(candidate)} scores of the candidate cannot be paired with {len(other)} of the other")
    if any(math.isnan(score) for score in (*candidate, *other)):
        raise ValueError("a score is no number")
    pairs = [0.0 if ours == theirs else float(ours - theirs) for ours, theirs in zip(candidate, other, strict=True)]
    differences = pairs if alike is None else _means(pairs, alike)
    finite = [each for each in differences if math.isfinite(each)]
    mean = student_estimate(finite)
    above, below = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    majority, average = _sign(above - below), _sign(mean.value or 0)
    contradiction = majority * average < 0
    probability = 1.0 if contradiction else _probability(finite, above, below)
    sense = 1 if higher else -1
    better, worse = (above, below) if higher else (below, above)
    return Comparison(mean, better, worse, len(differences), sense * (majority or average), probability)


def outcomes(comparisons: Sequence[Comparison], risk: float = RISK) -> list[Outcome]:
    """What each comparison of a table decides for the candidate, corrected for how many there are.

    Nothing is decided by fewer than `MIN_SAMPLES` samples; those comparisons are not among the many either.
    """
    enough = [each for each in comparisons if each.samples >= MIN_SAMPLES]
    corrected = iter(holm([each.probability for each in enough]))
    found: list[Outcome] = []
    for each in comparisons:
        if each.samples < MIN_SAMPLES:
            found.append("not enough samples")
        elif next(corrected) > risk:
            found.append("tie")
        else:
            found.append("better" if each.direction > 0 else "worse")
    return found


def holm(probabilities: Sequence[float]) -> list[float]:
    """Each test's probability, raised so that all below a risk together have that risk (Holm 1979, step down)."""
    order = sorted(range(len(probabilities)), key=lambda place: probabilities[place])
    raised, least = [0.0] * len(order), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * probabilities[place]))
        raised[place] = least
    return raised


def _means(pairs: Sequence[float], alike: Sequence[Hashable]) -> list[float]:
    """The mean difference of the samples of each kind; none where infinite ones cancel."""
    groups: dict[Hashable, list[float]] = {}
    for kind, difference in zip(alike, pairs, strict=True):
        groups.setdefault(kind, []).append(difference)
    return [0.0 if {math.inf, -math.inf} <= {*each} else sum(each) / len(each) for each in groups.values()]


def _probability(finite: Sequence[float], above: int, below: int) -> float:
    """Twice the smaller one of two tests': the risk of trying both."""
    tests = [sign_test(above, below)]
    student = student_test(finite) if len(finite) >= MIN_SAMPLES else None
    if student is not None:
        tests.append(student)
    return min(1.0, 2 * min(tests))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
