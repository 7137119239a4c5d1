"""Every recipe against every rival of the same kind, clip by clip, and what that decides."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.quality.candidates import LEVELS, Candidate
from quant.eval.metrics.paired import Comparison, Outcome, compared, outcomes


class Against(NamedTuple):
    """A recipe against a rival of its level."""

    ours: Candidate
    rival: Candidate
    found: Comparison
    outcome: Outcome

    @property
    def words(self) -> str:
        """The difference in dB with its interval, and the verdict: `+1.4 [-0.1, 2.9], tie`."""
        mean = self.found.difference
        if mean.value is None:
            return f"identical clips, {self.outcome}"
        bounds = "" if mean.low is None else f" [{mean.low:.1f}, {mean.high:.1f}]"
        return f"{mean.value:+.1f}{bounds}, {self.outcome}"


def verdicts(candidates: Sequence[Candidate], body: Mapping[str, Any]) -> list[Against]:
    """All that was measured of both sides, by level; Holm's correction is over the whole list.

    Args:
        candidates: those of an example.
        body: what the results file has of it.
    """
    measured, alike = body.get("measured", {}), _alike(body)
    pairs = [
        (ours, rival)
        for level in LEVELS
        for ours in candidates
        for rival in candidates
        if ours.level == rival.level == level and ours.is_recipe and rival.maker != "quant"
        if ours.key in measured and rival.key in measured
    ]
    found = [
        compared(*(_psnr(measured[each.key]) for each in (ours, rival)), higher=True, alike=alike)
        for ours, rival in pairs
    ]
    decided = zip(pairs, found, outcomes(found), strict=True)
    return [Against(ours, rival, comparison, outcome) for (ours, rival), comparison, outcome in decided]


def clips(body: Mapping[str, Any]) -> str:
    """How many videos there are of each candidate: `64 clips`, or `128 clips of 64 prompts`."""
    kinds = _alike(body)
    count, different = len(kinds), len(set(kinds))
    what = "inputs" if "inputs" in body["conditions"] else "prompts"
    return f"{count} clips" if count == different else f"{count} clips of {different} {what}"


def _alike(body: Mapping[str, Any]) -> list[str]:
    """What each clip was made from but for its noise: clips of one prompt are no independent ones."""
    how = body.get("conditions", {})
    return [json.dumps(each, sort_keys=True) for each in how.get("inputs", how.get("prompts", []))]


def _psnr(entry: Mapping[str, Any]) -> list[float]:
    return [math.inf if value is None else value for value in entry["psnr"]]
