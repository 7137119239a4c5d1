"""2:4 and 4-bit matmuls of Hopper in the emulator: INT8 bit-equal to the reference, others within a bound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import sm90_packed
from quant.kernels.matmuls.sm90_packed import HopperPackedTile, Sm90Packed
from quant.kernels.runtime.architectures import architecture
from tests.kernels.emulated import multiply_packed
from tests.kernels.matmuls.test_mma_gemm import OUTPUTS, views
from tests.kernels.packed_cases import KINDS, RAGGED, Case, case, met_by_each_kind

HOPPER_SPARSE_INT8 = sm90_packed.SPARSE_INT8.name
HOPPER_W4A8 = sm90_packed.W4A8.name
HOPPER_W4A16 = sm90_packed.W4A16.name

KERNELS = [name for name, kind in KINDS.items() if isinstance(kind, Sm90Packed)]
PACKED = [name for name in KERNELS if not KINDS[name].sparse]
CASES = [(name, dtype) for name in KERNELS for dtype in KINDS[name].dtypes]
TILED = met_by_each_kind(KERNELS, lambda name: KINDS[name].tiles(architecture("sm_90a")))
#: Few stages, so that the ring of them is gone round several times.
SMALL = HopperPackedTile(64, 1, 64, 2, 1)
TWO_GROUPS = HopperPackedTile(64, 2, 64, 3, 1)
WIDE = HopperPackedTile(32, 1, 128, 2, 1)
CLUSTER = HopperPackedTile(64, 2, 64, 2, 2)
ONE = torch.ones(1, 1)


def check(one: Case, tile: HopperPackedTile, **options: Any) -> None:
    """Compares before the last rounding, in float32; and no bank is met twice."""
    out, counts = multiply_packed(one, tile, **options)
    assert counts.shared_load_phases > 0
    assert (counts.shared_load_conflicts, counts.shared_store_conflicts) == (0, 0)
    error = (out - one.expected).abs()
    assert (error <= one.allowed).all(), f"largest error {error.max()}, allowed {one.allowed.flatten()[error.argmax()]}"


@pytest.mark.parametrize(("name", "tile"), TILED, ids=str)
def test_every_tile_on_a_ragged_size(name: str, tile: HopperPackedTile) -> None:
    group, k = (0, 364) if KINDS[name].sparse else (128, 384)
    check(case(name, (tile.m + 24, tile.n * tile.cluster + 16, k), group=group), tile, multiprocessors=2)


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("size", RAGGED, ids=str)
def test_ragged_sizes_under_every_timing(size: tuple[int, int, int], name: str, dtype: torch.dtype) -> None:
    one = case(name, size, dtype=dtype)
    for seed, copies in enumerate(("late", "early", "random")):
        check(one, SMALL, seed=seed, copies=copies, multiprocessors=1 + seed)


SIZES = [(1, 128, 128), (100, 300, 400), (130, 128, 1040)]
TILES = [TWO_GROUPS, WIDE, CLUSTER]


# Each kernel with all sizes and all tiles; each size with each tile, with a 2:4 and with a 4-bit weight.
@pytest.mark.parametrize(
    ("name", "tile", "size"),
    [(name, TILES[(i + j) % 3], SIZES[j]) for i, name in enumerate(KERNELS) for j in range(3)],
    ids=str,
)
def test_two_warpgroups_two_blocks_and_wide_ones(name: str, tile: HopperPackedTile, size: tuple[int, int, int]) -> None:
    one = case(name, size)
    for seed, copies in enumerate(("late", "early", "random")):
        check(one, tile, seed=seed, copies=copies)


@pytest.mark.parametrize(("name", "dtype"), [each for each in CASES if each[0] in PACKED], ids=str)
@pytest.mark.parametrize("group", [32, 64, 128, 256])
@pytest.mark.parametrize("tile", [SMALL, WIDE], ids=str)
def test_groups_of_columns(group: int, name: str, dtype: torch.dtype, tile: HopperPackedTile) -> None:
    k = 768 if group > 32 else 736  # with groups of 32 the last step is part of one
    check(case(name, (20, 72, k), dtype=dtype, group=group), tile)


@pytest.mark.parametrize("dtype", KINDS[HOPPER_W4A16].dtypes)
@pytest.mark.parametrize("group", [0, 32, 128])
def test_zero_points(group: int, dtype: torch.dtype) -> None:
    check(case(HOPPER_W4A16, (20, 72, 384), dtype=dtype, group=group, asymmetric=True), SMALL)


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "dtype"), [each for each in CASES if each[0] in PACKED], ids=str)
def test_scales_are_of_any_dtype(name: str, dtype: torch.dtype, scale_dtype: torch.dtype) -> None:
    asymmetric = name == HOPPER_W4A16
    check(case(name, (20, 72, 256), dtype=dtype, group=64, asymmetric=asymmetric, scale_dtype=scale_dtype), SMALL)


@pytest.mark.parametrize("name", KERNELS)
def test_long_sums(name: str) -> None:
    group = 0 if KINDS[name].sparse else 128
    check(case(name, (20, 40, 8192), group=group, fill="positive"), SMALL)


# The ending knows nothing of the kernel.
@pytest.mark.parametrize(("out_dtype", "out_scale"), OUTPUTS, ids=str)
@pytest.mark.parametrize(("n", "name"), [(144, HOPPER_SPARSE_INT8), (77, HOPPER_W4A8)])
def test_every_output_bit_for_bit(out_dtype: torch.dtype, out_scale: torch.Tensor | None, n: int, name: str) -> None:
    def ending(generator: torch.Generator) -> Epilogue:
        return Epilogue(
            ONE,
            ONE,
            bias=torch.randn(n, generator=generator).bfloat16(),
            residual=torch.randn(70, n, generator=generator).half(),
            gate=torch.randn(70, n, generator=generator),
            out_dtype=out_dtype,
            out_scale=out_scale,
        )

    one = case(name, (70, n, 96), ending=ending)
    out, _ = multiply_packed(one, TWO_GROUPS)
    assert out.dtype == out_dtype
    assert torch.equal(out.view(torch.uint8), one.expected.view(torch.uint8))


@pytest.mark.parametrize("n", [40, 43])
@pytest.mark.parametrize("name", views(6, 1))
@pytest.mark.parametrize("role", ["residual", "gate"])
def test_residuals_and_gates_are_read_where_they_lie(name: str, role: str, n: int) -> None:
    def ending(_: torch.Generator) -> Epilogue:
        plain, other = Epilogue(ONE, ONE, out_dtype=torch.float32), views(42, n)[name]
        return plain._replace(gate=other) if role == "gate" else plain._replace(residual=other)

    check(case(HOPPER_W4A8, (42, n, 64), ending=ending), SMALL)


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_every_sector_is_written_whole_by_as_many_instructions_as_it_takes(name: str, dtype: torch.dtype) -> None:
    m, n, k = 128, 256, 256
    kind = KINDS[name]

    def ending(generator: torch.Generator) -> Epilogue:
        return Epilogue(ONE, ONE, residual=torch.randn(m, n, generator=generator))

    _, counts = multiply_packed(
        case(name, (m, n, k), dtype=dtype, group=0 if kind.sparse else 128, ending=ending), TWO_GROUPS
    )
    assert counts.global_bytes_written == m * n * 2 == counts.global_sectors_written * 32
    instruction = 64 * TWO_GROUPS.m * 32 * (2 if kind.sparse else 1) // kind.in_bytes
    assert counts.wgmma == m * n * k // instruction
