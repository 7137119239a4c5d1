"""2:4 and 4-bit matmuls on a GPU against the reference on the CPU: the emulator's cases, and larger ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from quant.kernels.arguments import Epilogue, Int4Weight
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.sm90_packed import HopperPackedTile
from quant.kernels.ops.int4_mm import reference as int4_mm_reference
from quant.kernels.ops.sparse_scaled_mm import reference as sparse_scaled_mm_reference
from quant.kernels.runtime import cupy_launch
from tests.gpu.packed import DEVICE, PACKED, by_op, call, check, least_rows, moved, names, shares_k, tiles, with_dtypes
from tests.kernels.matmul_cases import FP8, INT8
from tests.kernels.packed_cases import KINDS, RAGGED, case

#: Few tokens, where warps share K and instructions are not filled, and then many.
ROWS = (1, 8, 16, 32, 33, 517, 2100)
ONE = torch.ones(1, 1)


def check_op(name: str, size: tuple[int, int, int], dtype: torch.dtype, **options: Any) -> None:
    """One case by the op; more rows where the kernel is not offered for so few."""
    (m, n, k), least = size, least_rows(name)
    m += least if m < least else 0
    one = case(name, (m, n, k), dtype=dtype, shares_k=shares_k(name, m, n, k), **options)
    check(by_op(moved(one)), one)


def usual_group(name: str) -> int:
    return 0 if KINDS[name].sparse else 128


@pytest.mark.parametrize("size", RAGGED, ids=str)
@pytest.mark.parametrize(("name", "dtype"), with_dtypes(), ids=str)
def test_ragged_sizes(name: str, dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    check_op(name, size, dtype)


@pytest.mark.parametrize(
    ("name", "dtype", "m"), [(*each, m) for each in with_dtypes() for m in ROWS if m >= least_rows(each[0])], ids=str
)
def test_few_rows_and_many(name: str, dtype: torch.dtype, m: int) -> None:
    check_op(name, (m, 1536 + 8, 2048 + 128), dtype, group=usual_group(name))


@pytest.mark.parametrize("fill", ["every code", "positive"])
@pytest.mark.parametrize("m", [16, 60])
@pytest.mark.parametrize("name", names())
def test_long_sums(name: str, m: int, fill: str) -> None:
    check_op(name, (m, 80, 13_824), KINDS[name].dtypes[0], group=usual_group(name), fill=fill)


@pytest.mark.parametrize(
    ("name", "tile", "multiprocessors"),
    [(*each, many) for each in tiles() for many in (3, 132) if many == 3 or isinstance(each[1], HopperPackedTile)],
    ids=str,
)
def test_every_tile(name: str, tile: Tile, multiprocessors: int) -> None:
    """A size that is ragged in every direction, into memory that is NaN before.

    With few multiprocessors the blocks that stay on Hopper have several tiles each.
    """
    size = (2 * tile.m + 5, 2 * tile.n + 24, 9 * 128)
    shared = isinstance(tile, PackedTile) and tile.warps_k > 1
    one = case(name, size, group=usual_group(name), shares_k=shared)
    there = moved(one)
    planned = KINDS[name].plan(there.a, there.weight, there.epilogue, tile, multiprocessors=multiprocessors)
    planned.out.fill_(float("nan"))
    cupy_launch.run(planned.launch, DEVICE)
    check(planned.out, one)
    assert planned.held


@pytest.mark.parametrize("group", [32, 64, 128, 256])
@pytest.mark.parametrize("m", [20, 100])
@pytest.mark.parametrize(("name", "dtype"), with_dtypes(PACKED), ids=str)
def test_groups_of_columns(name: str, dtype: torch.dtype, m: int, group: int) -> None:
    """With groups of 32 the last step is part of one."""
    check_op(name, (m, 72, 768 if group > 32 else 736), dtype, group=group)


@pytest.mark.parametrize("group", [0, 32, 128])
@pytest.mark.parametrize("m", [20, 100])
@pytest.mark.parametrize(("name", "dtype"), [each for each in with_dtypes(PACKED) if each[1].itemsize == 2], ids=str)
def test_zero_points(name: str, dtype: torch.dtype, m: int, group: int) -> None:
    check_op(name, (m, 72, 384), dtype, group=group, asymmetric=True)


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "dtype"), [each for each in with_dtypes(PACKED) if each[1].itemsize == 1], ids=str)
def test_scales_of_sums_are_of_any_dtype(name: str, dtype: torch.dtype, scale_dtype: torch.dtype) -> None:
    check_op(name, (40, 72, 256), dtype, group=128, scale_dtype=scale_dtype)


@pytest.mark.parametrize("n", [144, 77])
@pytest.mark.parametrize(
    ("out_dtype", "out_scale"),
    [(torch.float32, None), (torch.bfloat16, None), (torch.float16, None), (INT8, 0.05), (FP8, 0.05)],
    ids=str,
)
@pytest.mark.parametrize("name", [name for name, dtype in with_dtypes() if dtype == INT8])
def test_every_output_bit_for_bit(name: str, out_dtype: torch.dtype, out_scale: float | None, n: int) -> None:
    """With bias, residual and gate. K is one slab, which no warps share, so that the sums are exact."""

    def ending(generator: torch.Generator) -> Epilogue:
        return Epilogue(
            ONE,
            ONE,
            bias=torch.randn(n, generator=generator).bfloat16(),
            residual=torch.randn(60, n, generator=generator).half(),
            gate=torch.randn(60, n, generator=generator),
            out_dtype=out_dtype,
            out_scale=None if out_scale is None else torch.tensor([out_scale]),
        )

    one = case(name, (60, n, 64), ending=ending)
    out = by_op(moved(one)).cpu()
    assert out.dtype == out_dtype
    assert torch.equal(out.view(torch.uint8), one.expected.view(torch.uint8))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("name", names())
def test_activations(name: str, activation: str) -> None:
    plain = case(name, (60, 72, 128))
    one = case(name, (60, 72, 128), ending=lambda _: Epilogue(ONE, ONE, None, activation, out_dtype=torch.float32))
    error = (by_op(moved(one)).cpu() - one.expected).abs()
    # No slope is above 1.2; the functions of two libraries differ by some last bits.
    assert (error <= 1.2 * one.allowed + 1e-5 * plain.expected.abs().clamp(min=1)).all()


@pytest.mark.parametrize("name", [name for name, dtype in with_dtypes() if dtype == INT8])
def test_more_than_2_to_31_results(name: str) -> None:
    m, n, k = 200_000, 11_008, 64
    one = case(name, (1, n, k))
    generator = torch.Generator().manual_seed(5)
    a = torch.randint(-127, 128, (m, k), dtype=INT8, generator=generator)
    a_scale = torch.rand(m, 1, generator=generator)
    epilogue = one.epilogue._replace(a_scale=a_scale, out_dtype=torch.bfloat16)
    out = by_op(moved(replace(one, a=a, epilogue=epilogue)))
    for rows in (slice(0, 40), slice(m // 2, m // 2 + 40), slice(m - 40, m)):
        part = epilogue._replace(a_scale=a_scale[rows])
        if isinstance(one.weight, Int4Weight):
            expected = int4_mm_reference(a[rows], one.weight, part)
        else:
            expected = sparse_scaled_mm_reference(a[rows], one.weight, part)
        assert torch.equal(out[rows].cpu(), expected)


@pytest.mark.parametrize("m", [16, 60])
@pytest.mark.parametrize("name", names())
def test_compiles_into_one_graph(name: str, m: int) -> None:
    """With two leading dimensions, by whichever kernel dispatch takes for so many rows."""
    there = moved(case(name, (m, 72, 256), group=usual_group(name)))
    a = there.a.view(2, m // 2, 256)
    found = torch.compile(lambda x: call(there, x), fullgraph=True)(a)
    assert found.shape == (2, m // 2, 72)
    assert torch.equal(found, call(there, a))


@pytest.mark.parametrize("m", [16, 60])
@pytest.mark.parametrize("name", names())
def test_a_captured_graph_and_another_stream(name: str, m: int) -> None:
    there = moved(case(name, (m, 72, 256), group=usual_group(name)))
    a = there.a.clone()
    expected = call(there, a)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        beside = call(there, a)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(beside, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call(there, a)
    bits = torch.int8 if a.itemsize == 1 else torch.int16  # not everything is there for e4m3
    a.view(bits).copy_(there.a.view(bits).flip(1))
    graph.replay()
    assert torch.equal(captured, call(there, a))
    assert not torch.equal(captured, expected)
