"""How figures are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quant.eval.metrics.base import Display

#: Where a time was taken without the kernels of a GPU.
REFERENCE = "reference arithmetic"
#: What the kinds of metrics are headed by.
GROUPS = {
    "paired": "Against the original’s video of the same prompt, seed and initial latents",
    "own": "Of each model’s own videos",
    "other": "Other metrics",
}


def figure(value: float | None, shown: Display) -> str:
    """A value with its unit; "identical" where it is infinite, a dash where there is none."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "identical"
    return f"{value:.{shown.digits}f}{shown.unit}"


def mean(estimate: Mapping[str, Any], shown: Display) -> str:
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
