"""The search of scales against trying every factor, and their least squares against `torch.linalg.lstsq`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.clipping import SHRINKS, clipped_grid, refit_scales
from quant.algorithms.gptq import output_error, solve
from quant.formats.grid import Grid, grid_from_range, grid_of, scale_shape
from quant.formats.scheme import BLOCK, TensorFormat

CHANNEL = TensorFormat(4, "int", "channel")
GROUPS = TensorFormat(4, "int", "group", group_size=32)
ASYMMETRIC = TensorFormat(4, "int", "group", symmetric=False, group_size=32)
INT8 = TensorFormat(8, "int", "tensor")
FP8 = TensorFormat(8, "float", "channel")
BLOCKS = TensorFormat(8, "float", "block", block_structure=BLOCK)
TENSOR_FORMATS = [CHANNEL, GROUPS, ASYMMETRIC, INT8, FP8, BLOCKS]


def format_id(tensor_format: TensorFormat) -> str:
    return f"{tensor_format.type}{tensor_format.num_bits}-{tensor_format.strategy}-{tensor_format.symmetric}"


def _weight(seed: int, n: int = 6, k: int = 96, tails: float = 1.0) -> torch.Tensor:
    """Weights of which a few are far out, more so with larger `tails`."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, k, generator=generator)
    return values.sign() * values.abs().pow(1 + tails)


def _error(weight: torch.Tensor, grid: Grid, importance: torch.Tensor) -> float:
    return float(((grid.values(grid.codes(weight)) - weight).square() * importance).sum())


@given(
    seed=st.integers(0, 10_000),
    tails=st.floats(0, 2),
    tensor_format=st.sampled_from(TENSOR_FORMATS),
    weighted=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_never_worse_than_the_whole_range(seed: int, tails: float, tensor_format: TensorFormat, weighted: bool) -> None:
    weight = _weight(seed, tails=tails)
    count = torch.rand(96) if weighted else torch.ones(96)
    found = clipped_grid(weight, tensor_format, count if weighted else None)
    assert _error(weight, found, count) <= _error(weight, grid_of(weight, tensor_format), count) * (1 + 1e-6)
    assert found.scale.shape == scale_shape(tensor_format, *weight.shape)
    stored = found.scale.bfloat16().float() if tensor_format.num_bits == 4 else found.scale
    assert torch.equal(found.scale, stored)


@pytest.mark.parametrize("tensor_format", [GROUPS, CHANNEL], ids=format_id)
def test_each_part_gets_the_best_factor_there_is(tensor_format: TensorFormat) -> None:
    weight, count = _weight(1), torch.rand(96)
    size = tensor_format.group_size or 96
    found = clipped_grid(weight, tensor_format, count)
    for row in range(6):
        for part in range(96 // size):
            values = weight[row, part * size : (part + 1) * size]
            of_part = count[part * size : (part + 1) * size]
            errors = []
            # A group's whole range as it is stored, times each factor, as it is stored.
            whole = (values.abs().max() / 7).bfloat16().float()
            for shrink in SHRINKS:
                scale = (whole * 7 * shrink / 7).bfloat16().float()
                rounded = (values / scale).round().clamp(-7, 7) * scale
                errors.append((((rounded - values).square() * of_part).sum().item(), scale.item()))
            assert found.scale[row, part].item() == min(errors)[1]


@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
def test_blocks_and_tensors_add_up_all_their_weights(tensor_format: TensorFormat) -> None:
    """Whatever shares a scale, no factor of the list on all parts alike is better than the search."""
    weight = _weight(2, n=150, k=256)
    whole, ones = grid_of(weight, tensor_format), torch.ones(256)
    least = _error(weight, clipped_grid(weight, tensor_format), ones)
    for shrink in SHRINKS:
        reach = (
            whole.scale * (448 if tensor_format.type == "float" else 127 if tensor_format.num_bits == 8 else 7) * shrink
        )
        if tensor_format.symmetric:
            assert least <= _error(weight, grid_from_range(-reach, reach, tensor_format), ones) * (1 + 1e-6)


def test_what_is_exact_stays_as_it_is() -> None:
    weight = torch.randint(-7, 8, (4, 64)).float() * 0.5
    weight[:, ::32] = 3.5
    assert torch.equal(clipped_grid(weight, GROUPS).scale, grid_of(weight, GROUPS).scale)
    assert torch.equal(clipped_grid(torch.zeros(4, 64), GROUPS).scale, torch.ones(4, 2))


def test_a_column_that_matters_alone_is_not_clipped() -> None:
    weight, count = torch.full((1, 32), 0.11), torch.zeros(32)
    weight[0, 3], count[3] = 1.0, 1.0
    found = clipped_grid(weight, GROUPS, count)
    assert abs(found.values(found.codes(weight))[0, 3] - 1) < 0.01
    other = clipped_grid(weight, GROUPS, 1 - count)
    assert other.scale[0, 0] < found.scale[0, 0]


def _solved(
    seed: int, tensor_format: TensorFormat
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Grid, torch.Tensor]:
    weight = _weight(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    x = (torch.randn(200, 96, generator=generator) @ torch.randn(96, 96, generator=generator)).double()
    grid = grid_of(weight, tensor_format)
    return weight, x, x.T @ x, grid, grid.codes(solve(weight, x.T @ x, grid))


@pytest.mark.parametrize("tensor_format", [GROUPS, ASYMMETRIC, CHANNEL, FP8], ids=format_id)
def test_refitted_scales_are_least_squares_as_stored(tensor_format: TensorFormat) -> None:
    weight, x, h, grid, codes = _solved(3, tensor_format)
    found = refit_scales(weight, codes, h, grid)
    size = tensor_format.group_size or 96
    steps = codes.double()
    if grid.zero_point is not None:
        steps = steps - grid.zero_point.repeat_interleave(size, dim=1)
    changed = 0
    for row in range(6):
        by_group = torch.stack([x[:, s : s + size] @ steps[row, s : s + size] for s in range(0, 96, size)], dim=1)
        exact = torch.linalg.lstsq(by_group, (x @ weight[row].double())[:, None]).solution[:, 0]
        if torch.equal(found.scale[row], grid.scale[row]):
            continue
        changed += 1
        torch.testing.assert_close(found.scale[row].double(), exact, rtol=2**-8, atol=0)
    assert changed >= 4
    if grid.zero_point is not None:
        assert found.zero_point is not None
        assert torch.equal(found.zero_point, grid.zero_point)


@given(seed=st.integers(0, 10_000), tensor_format=st.sampled_from([GROUPS, ASYMMETRIC, CHANNEL, FP8]))
@settings(max_examples=20, deadline=None)
def test_refitted_scales_are_never_worse_in_any_row(seed: int, tensor_format: TensorFormat) -> None:
    weight, _, h, grid, codes = _solved(seed, tensor_format)
    found = refit_scales(weight, codes, h, grid)
    for row in range(6):
        before, after = (output_error((g.values(codes) - weight)[row : row + 1], h).item() for g in (grid, found))
        assert after <= before * (1 + 1e-9)
    assert (found.scale > 0).all()


def test_scales_that_rows_share_are_refused() -> None:
    weight, _, h, _, codes = _solved(3, CHANNEL)
    with pytest.raises(ValueError, match="scales by tensor belong to several rows"):
        refit_scales(weight, codes, h, grid_of(weight, INT8))
