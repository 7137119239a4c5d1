"""The results file of one GPU: benchmarks/results/gpu_NAME.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.facts import ROOT, slug

FORMAT_VERSION = 1
FOLDER = ROOT / "benchmarks" / "results"


def assembled(
    facts: Mapping[str, Any],
    clocks: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
    measured: Mapping[str, Any],
    videos: Mapping[str, Any] | None,
    steps: Sequence[Mapping[str, Any]],
    *,
    quick: bool,
) -> dict[str, Any]:
    """Everything that a file holds.

    Args:
        facts: of `facts.gather`.
        clocks: of `facts.clocks`, before and after.
        measured: of `figures.body`.
        videos: of `videos.compare`; None where that did not run.
        steps: how each step ended.
        quick: was it a quick run?
    """
    return {
        "format_version": FORMAT_VERSION,
        "facts": dict(facts),
        "clocks_before": clocks[0],
        "clocks_after": clocks[1],
        "quick": quick,
        "steps": list(steps),
        **measured,
        "videos": videos,
    }


def path(name: str, folder: Path) -> Path:
    """Where the results of a GPU of this name are."""
    return folder / f"gpu_{slug(name)}.json"
