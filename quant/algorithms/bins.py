"""Bins of the noise schedule, each with a static range of its own: where to cut, so that steps are as fine as can be.

A layer's inputs grow or shrink along the schedule, and the step of codes is set by the largest value of a bin. A part
of the schedule whose own largest value is half of that has steps twice as coarse as it needs, and four times the
squared error of rounding. Cuts are those of the least sum of these factors over all rows, found exactly by dynamic
programming over neighbouring timesteps (as optimal histograms are: Jagadish et al., VLDB 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from quant.algorithms.base import AmaxByTimestep

#: Parts of the schedule between which cuts are looked for; of more timesteps neighbours are taken together.
_MOST_PARTS = 64
#: A part whose values are so many times smaller than its bin's has no code but 0 left, and can lose no more.
_ALL_LOST = 256.0


@dataclass(frozen=True)
class Bins:
    """Bins by rising timestep.

    Attributes:
        edges: float32 [B-1], between the timesteps next to them.
        amax: float32 [B], the largest absolute value in each.
    """

    edges: torch.Tensor
    amax: torch.Tensor


def choose_bins(seen: AmaxByTimestep, count: int) -> Bins:
    """Bins of the least expected squared step, relative to what each part of the schedule needs.

    Args:
        seen: of one input, at one timestep at least.
        count: of bins at most: there are no more than timesteps.
    """
    parts = _parts(seen)
    amax = torch.stack([seen.amax[part].amax() for part in parts])
    rows = torch.stack([seen.rows[part].sum() for part in parts]).double()
    costs = interval_costs(amax.double(), rows)
    starts = cuts(costs, min(count, len(parts)))
    stops = [*starts[1:], len(parts)]
    above = seen.timesteps[[parts[at].start for at in starts[1:]]]
    below = seen.timesteps[[parts[at].start - 1 for at in starts[1:]]]
    middle = ((above + below) / 2).float()
    edges = torch.where(middle < above.float(), middle, below.float())  # of neighbours in float32 nothing is between
    return Bins(edges, torch.stack([amax[start:stop].amax() for start, stop in zip(starts, stops, strict=True)]))


def interval_costs(amax: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The cost of making one bin of parts i to j, both included, at [i, j]; infinite below the diagonal.

    Args:
        amax: float64 [S], the largest value of each part. One of 0 has no error at any step.
        rows: float64 [S], how much each counts.
    """
    size = len(amax)
    found = torch.full((size, size), torch.inf, dtype=torch.float64)
    needs = torch.where(amax > 0, amax, torch.inf)
    for i in range(size):
        reach = amax[i:].cummax(0).values
        coarser = (reach[:, None] / needs[None, i:]).clamp(max=_ALL_LOST).square() * rows[None, i:]
        found[i, i:] = coarser.tril().sum(1)
    return found


def cuts(costs: torch.Tensor, count: int) -> list[int]:
    """The first part of each of `count` bins of the least sum of costs; of equal sums, that with the longest last bins.

    Args:
        costs: of `interval_costs`, [S, S].
        count: from 1 to S.
    """
    size = len(costs)
    best = costs[0].clone()  # of parts 0 to j in one bin
    firsts: list[torch.Tensor] = []
    for _ in range(count - 1):
        # Of parts 0 to j with a last bin from i: infinite where nothing is left before it.
        before = torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), best[:-1]])
        best, first = (before[:, None] + costs).min(dim=0)
        firsts.append(first)
    starts, stop = [], size
    for first in reversed(firsts):
        stop = int(first[stop - 1])
        starts.append(stop)
    return [0, *reversed(starts)]


def _parts(seen: AmaxByTimestep) -> list[slice]:
    """Stretches of neighbouring timesteps, as even in number as can be."""
    size = len(seen.timesteps)
    count = min(size, _MOST_PARTS)
    bounds = [size * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
