"""Cuts of the noise schedule are the best of all cuts, and what is cut is what was seen."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from quant.algorithms.base import AmaxByTimestep
from quant.algorithms.bins import choose_bins
from quant.kernels.numerics import encode, scale_from_amax


def seen(amax: list[float], rows: list[int] | None = None, timesteps: list[float] | None = None) -> AmaxByTimestep:
    return AmaxByTimestep(
        torch.tensor(timesteps or [10.0 * (i + 1) for i in range(len(amax))], dtype=torch.float64),
        torch.tensor(amax),
        torch.tensor(rows or [1] * len(amax)),
    )


def cost(given: AmaxByTimestep, starts: tuple[int, ...]) -> float:
    """Of bins that begin at 0 and at these places, written out."""
    total = 0.0
    for start, stop in pairwise((0, *starts, len(given.amax))):
        largest = max(given.amax[start:stop].tolist())
        for amax, rows in zip(given.amax[start:stop].tolist(), given.rows[start:stop].tolist(), strict=True):
            total += rows * min(largest / amax, 256.0) ** 2 if amax > 0 else 0.0
    return total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_no_other_cuts_cost_less(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    amax = torch.exp(2 * torch.randn(9, generator=generator)).tolist()
    amax[seed] = 0.0 if seed % 2 else 1e-30
    given = seen(amax, torch.randint(1, 50, (9,), generator=generator).tolist())
    found = choose_bins(given, count)
    starts = tuple(int((given.timesteps <= edge).sum()) for edge in found.edges)
    assert found.edges.tolist() == [10.0 * start + 5 for start in starts]
    assert found.amax.tolist() == [float(given.amax[a:b].max()) for a, b in pairwise((0, *starts, 9))]
    least = min(cost(given, other) for other in combinations(range(1, 9), count - 1))
    assert cost(given, starts) == pytest.approx(least, rel=1e-6)


def test_a_schedule_of_two_halves_is_cut_between_them() -> None:
    found = choose_bins(seen([1.0, 1.0, 1.0, 8.0, 8.0], timesteps=[-1.5, -0.25, 0.5, 0.75, 1.6]), 2)
    assert (found.edges.tolist(), found.amax.tolist()) == ([0.625], [1.0, 8.0])


def test_there_are_no_more_bins_than_timesteps() -> None:
    found = choose_bins(seen([3.0, 2.0]), 4)
    assert (found.edges.tolist(), found.amax.tolist()) == ([15.0], [3.0, 2.0])
    one = choose_bins(seen([3.0]), 4)
    assert (one.edges.tolist(), one.amax.tolist()) == ([], [3.0])


def test_of_a_thousand_timesteps_neighbours_are_taken_together() -> None:
    found = choose_bins(seen([1.0] * 500 + [4.0] * 500, timesteps=[float(i) for i in range(1000)]), 2)
    assert found.edges.tolist() == [499.5]
    assert found.amax.tolist() == [1.0, 4.0]


def test_edges_rise_between_neighbours_in_float32() -> None:
    first = torch.tensor(500.0)
    values = [first]
    for _ in range(3):
        values.append(torch.nextafter(values[-1], torch.tensor(1000.0)))
    found = choose_bins(seen([1.0, 2.0, 4.0, 8.0], timesteps=[float(value) for value in values]), 4)
    assert torch.equal(torch.bucketize(torch.stack(values), found.edges), torch.arange(4))


@pytest.mark.parametrize(("dtype", "own", "wide"), [(torch.float8_e4m3fn, 0.028, 0.028), (torch.int8, 0.023, 0.76)])
def test_codes_of_fp8_gain_nothing_by_bins_and_those_of_int8_do(dtype: torch.dtype, own: float, wide: float) -> None:
    """Inputs of examples/shapes, with their own range and with that of a bin that reaches 64 times as far."""
    recorded = load_file(Path(__file__).parents[1] / "golden" / "recorded.safetensors")
    inputs = [tensor.float() for name, tensor in recorded.items() if name.endswith(".input")]
    assert len(inputs) == 6
    for x in inputs:
        for reach, most in ((1, own), (64, wide)):
            scale = scale_from_amax(reach * x.abs().amax().reshape(1), dtype)
            error = float((encode(x, scale, dtype).float() * scale - x).norm() / x.norm())
            assert most / 2 < error < most
