"""Every metric, listed once. Ask through the functions: what is put into the table is then known everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from quant.eval.metrics.base import Display, Kind, Metric, SetDistance
from quant.eval.metrics.clip import CLIP_FRAME, CLIP_PROMPT
from quant.eval.metrics.frechet import FVD
from quant.eval.metrics.intervals import Estimate
from quant.eval.metrics.judged import JUDGED
from quant.eval.metrics.kernel_distance import KERNEL_DISTANCE
from quant.eval.metrics.lpips import LPIPS_ALEX, LPIPS_VGG
from quant.eval.metrics.psnr import PSNR
from quant.eval.metrics.ssim import SSIM
from quant.eval.metrics.temporal import TEMPORAL_PSNR

#: Paired metrics come first: they are what a set distance can hide. By the first of all, samples are put in order.
METRICS: tuple[Metric, ...] = (
    PSNR,
    SSIM,
    TEMPORAL_PSNR,
    LPIPS_ALEX,
    LPIPS_VGG,
    CLIP_FRAME,
    CLIP_PROMPT,
    JUDGED,
)
SET_DISTANCES: tuple[SetDistance, ...] = (FVD, KERNEL_DISTANCE)
_KINDS: tuple[Kind, ...] = ("paired", "own", "other")


def metrics(kind: Kind | None = None) -> tuple[Metric, ...]:
    """The metrics of single videos, of one kind or all."""
    return tuple(metric for metric in METRICS if kind in (None, metric.kind))


def leading() -> Metric:
    """The metric by which samples are put in order, worst first."""
    return METRICS[0]


def find(key: str) -> Metric | None:
    """The metric of a name in the results; None where none is listed."""
    return next((metric for metric in METRICS if metric.key == key), None)


def loss_of(key: str, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
    """The loss by the metric `key`, from one value a sample; `original` is the original's own values, if it has any.

    Raises ValueError for a metric that is not listed, and as `Metric.loss` does.
    """
    metric = find(key)
    if metric is None:
        raise ValueError(f"there is no loss by {key!r}")
    return metric.loss(candidate, original)


def set_title(key: str) -> str:
    """What the sets of an extractor are called, by their key in the results: "fvd:i3d" -> "FVD (i3d)"."""
    return SET_DISTANCES[0].title(key)


def display(key: str) -> Display:
    """How the metric of a name in the results is shown; one that is not listed keeps its name."""
    return find(key) or Display(key=key, title=key)


def ordered(keys: Iterable[str]) -> list[Display]:
    """Paired metrics first, then those of a model's own videos, then what is not listed.

    Of each kind those come first that need no network.
    """
    listed = sorted(METRICS, key=lambda metric: metric.network is not None)
    places = {metric.key: number for number, metric in enumerate(listed)}
    shown = [display(key) for key in dict.fromkeys(keys)]
    return sorted(shown, key=lambda each: (_KINDS.index(each.kind), places.get(each.key, len(places)), each.key))
