"""What metrics are called, and how their figures are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Where a time was taken without the kernels of a GPU.
REFERENCE = "reference arithmetic"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        key: its name in the results.
        title: in words.
        unit: " dB" or empty.
        digits: after the point.
        higher: True where a higher value is closer to what is wanted.
        group: the heading that it stands under.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 4
    higher: bool = True
    group: str = "other"


#: Paired metrics come first: they are what a set distance can hide.
METRICS = (
    Metric("psnr", "PSNR", " dB", 1, group="paired"),
    Metric("ssim", "SSIM", group="paired"),
    Metric("temporal_psnr", "Temporal PSNR", " dB", 1, group="paired"),
    Metric("lpips_alex", "LPIPS (AlexNet)", higher=False, group="paired"),
    Metric("lpips_vgg", "LPIPS (VGG)", higher=False, group="paired"),
    Metric("judged", "Shows what was asked", "", 3, group="own"),
    Metric("clip_frame", "CLIP frame consistency", group="own"),
    Metric("clip_prompt", "CLIP prompt consistency", group="own"),
)
_KNOWN = {metric.key: metric for metric in METRICS}
GROUPS = {
    "paired": "Against the original’s video of the same prompt, seed and initial latents",
    "own": "Of each model’s own videos",
    "other": "Other metrics",
}


def metric(key: str) -> Metric:
    """The metric of a name in the results; an unknown one keeps its name."""
    return _KNOWN.get(key) or Metric(key, key)


def ordered(keys: Iterable[str]) -> list[Metric]:
    """Paired metrics first, then those of a model's own videos, then what is not known here."""
    found = {key: metric(key) for key in keys}
    places = {known.key: number for number, known in enumerate(METRICS)}
    groups = list(GROUPS)
    return sorted(found.values(), key=lambda m: (groups.index(m.group), places.get(m.key, len(places)), m.key))


def figure(value: float | None, shown: Metric) -> str:
    """A value with its unit; "identical" where it is infinite, a dash where there is none."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "identical"
    return f"{value:.{shown.digits}f}{shown.unit}"


def mean(estimate: Mapping[str, Any], shown: Metric) -> str:
    """The mean of a summary as `figure`; "identical" where no video differs, so that there is no finite one."""
    value = estimate.get("value")
    return figure(math.inf if value is None and estimate.get("identical") else value, shown)


def also_identical(estimate: Mapping[str, Any]) -> str:
    """ "and 2 identical": videos that a mean leaves out, for their PSNR is infinite; else empty."""
    count = estimate.get("identical")
    return f"and {count} identical" if count and estimate.get("value") is not None else ""


def interval(estimate: Mapping[str, Any], digits: int) -> str:
    """ "38.1 – 42.0", or empty where no interval was taken."""
    if estimate.get("low") is None or estimate.get("high") is None:
        return ""
    return f"{estimate['low']:.{digits}f} – {estimate['high']:.{digits}f}"


def set_title(key: str) -> str:
    """ "fvd:i3d" -> "FVD (i3d)"."""
    kind, _, extractor = key.partition(":")
    return f"{kind.upper()} ({extractor})" if extractor else kind.upper()


def size(count: float | None) -> str:
    """Bytes in decimal units: 12.3 MB, 28.6 GB; a dash where they are not known."""
    if count is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float | None) -> str:
    """Three figures that count: 1.23 s, 45.6 ms."""
    if seconds is None:
        return "–"
    value, unit = (seconds, "s") if seconds >= 1 else (seconds * 1e3, "ms")
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def share(part: float | None) -> str:
    """ "58%"; a dash where it is not known."""
    return "–" if part is None else f"{part:.0%}"


def level_text(level: float) -> str:
    """The level of a verdict: 0.01 -> "1%", 0.001 -> "0.1%"."""
    return f"{level * 100:g}%"


def number(count: int, one: str, several: str = "") -> str:
    """ "1 sample", "4 samples"."""
    return f"{count} {one if count == 1 else several or one + 's'}"


def short(digest: str) -> str:
    """The first 12 characters of a hash."""
    return digest[:12]
