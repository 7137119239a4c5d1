"""The row sample of `statistics`: uniform, without replacement, of bounded size. Ranges by timestep."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.calibration.running_sums import RowSample, TimestepRanges


def _sampled(chunks: list[int], size: int, seed: int) -> list[int]:
    """Numbers of the rows that are kept of a stream that arrives in `chunks`; row i holds i twice."""
    sample = RowSample(size, seed)
    stream = torch.arange(sum(chunks), dtype=torch.float32)
    for rows in torch.split(stream, chunks):
        sample.add(torch.stack([rows, rows], dim=1))
    assert sample.rows is not None
    assert torch.equal(sample.rows[:, 0], sample.rows[:, 1])
    return [int(value) for value in sample.rows[:, 0]]


@given(chunks=st.lists(st.integers(1, 12), min_size=1, max_size=8), size=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_sample_holds_different_rows_and_as_many_as_it_can(chunks: list[int], size: int, seed: int) -> None:
    kept = _sampled(chunks, size, seed)
    assert len(kept) == len(set(kept)) == min(size, sum(chunks))
    assert set(kept) <= set(range(sum(chunks)))
    assert _sampled(chunks, size, seed) == kept


def test_every_row_is_as_likely_wherever_it_stands_in_the_stream() -> None:
    """Chunks smaller, equal to and larger than the sample. 2000 draws: 4 of 20 rows, so each about 400 times."""
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[_sampled([1, 4, 9, 2, 4], 4, seed)] += 1
    assert counts.sum() == 2000 * 4
    # Each count is binomial with deviation 17.9; five of them leave one false alarm in 80,000 such tests.
    assert (counts - 400).abs().max() < 5 * 17.9


def test_pairs_are_as_likely_too() -> None:
    """Keeping whole chunks would pass the test above; neighbours must not stay together more than others."""
    together, apart = 0, 0
    for seed in range(2000):
        kept = set(_sampled([2, 2, 2, 2], 2, seed))
        together += kept in ({0, 1}, {2, 3}, {4, 5}, {6, 7})
        apart += kept in ({0, 2}, {1, 4}, {3, 7}, {5, 6})
    expected, deviation = 2000 * 4 / 28, (2000 * 4 / 28 * 24 / 28) ** 0.5
    assert abs(together - expected) < 5 * deviation
    assert abs(apart - expected) < 5 * deviation


def test_a_sample_is_a_copy_in_float32() -> None:
    rows = torch.ones(3, 2, dtype=torch.bfloat16)
    sample = RowSample(5, 0)
    sample.add(rows)
    rows.zero_()
    assert sample.rows is not None
    assert sample.rows.dtype == torch.float32
    assert torch.equal(sample.rows, torch.ones(3, 2))


def test_memory_does_not_grow_with_the_stream() -> None:
    sample = RowSample(8, 0)
    for _ in range(50):
        sample.add(torch.randn(100, 4))
        assert sample.rows is not None
        assert sample.rows.untyped_storage().nbytes() <= 8 * 4 * 4


def test_a_sample_of_nothing_has_no_rows() -> None:
    assert RowSample(4, 0).rows is None


def test_ranges_are_by_timestep_and_go_on_where_they_were() -> None:
    ranges = TimestepRanges()
    calls = [(900.0, 3.0, 4), (10.0, -7.0, 2), (900.0, -5.0, 1)]
    for i, (timestep, value, rows) in enumerate(calls):
        if i == 2:
            state, ranges = ranges.state(), TimestepRanges()
            ranges.restore(state)
        ranges.add(torch.full((rows, 2), value), timestep)
    found = ranges.result()
    assert (found.timesteps.tolist(), found.amax.tolist(), found.rows.tolist()) == ([10.0, 900.0], [7.0, 5.0], [2, 5])


def test_beyond_a_thousand_timesteps_a_new_one_counts_to_the_nearest() -> None:
    ranges = TimestepRanges()
    for timestep in range(TimestepRanges.MOST):
        ranges.add(torch.ones(1, 2), float(timestep))
    ranges.add(torch.full((3, 2), 4.0), 17.4)
    found = ranges.result()
    assert len(found.timesteps) == TimestepRanges.MOST
    assert (found.amax[17].item(), found.rows[17].item()) == (4.0, 4)
