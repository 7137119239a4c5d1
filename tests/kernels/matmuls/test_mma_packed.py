"""2:4 and 4-bit matmuls of Ampere and Ada in the emulator: INT8 bit-equal to the reference, others within a bound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import mma_packed
from quant.kernels.matmuls.mma_packed import TILES, PackedTile
from quant.kernels.matmuls.sm90_packed import Sm90Packed
from quant.kernels.runtime.architectures import architecture
from tests.kernels.emulated import multiply_packed
from tests.kernels.matmul_cases import INT8
from tests.kernels.matmuls.test_mma_gemm import OUTPUTS, views
from tests.kernels.packed_cases import KINDS, RAGGED, Case, case, met_by_each_kind

SPARSE_INT8 = mma_packed.SPARSE_INT8.name
W4A8 = mma_packed.W4A8.name
W4A16 = mma_packed.W4A16.name

KERNELS = [name for name, kind in KINDS.items() if not isinstance(kind, Sm90Packed)]
PACKED = [name for name in KERNELS if not KINDS[name].sparse]
#: Kernel and dtype of a.
CASES = [(name, dtype) for name in KERNELS for dtype in KINDS[name].dtypes]
SMALL = PackedTile(64, 64, 2, 32, 32, 1, 3)
#: Whose warps share K.
FEW = PackedTile(32, 16, 8, 32, 16, 8, 3)
ONE = torch.ones(1, 1)


TILED = met_by_each_kind(KERNELS, lambda name: KINDS[name].tiles(architecture(KINDS[name].architectures[0])))


def check(one: Case, tile: PackedTile, **options: Any) -> None:
    """Compares before the last rounding, in float32; and no bank is met twice."""
    out, counts = multiply_packed(one, tile, **options)
    conflicts = (counts.ldmatrix_conflicts, counts.copy_conflicts)
    assert (*conflicts, counts.shared_load_conflicts, counts.shared_store_conflicts) == (0, 0, 0, 0)
    error = (out - one.expected).abs()
    assert (error <= one.allowed).all(), f"largest error {error.max()}, allowed {one.allowed.flatten()[error.argmax()]}"


@pytest.mark.parametrize(("name", "tile"), TILED, ids=str)
def test_every_tile_on_a_ragged_size(name: str, tile: PackedTile) -> None:
    k = (3 * tile.slabs // 2 + 2) * 128  # more steps than stages, whole groups
    group, k = (0, k - 20) if KINDS[name].sparse else (128, k)
    check(case(name, (tile.m + 3, tile.n + 5, k), group=group, shares_k=tile.warps_k > 1), tile)


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("size", RAGGED, ids=str)
def test_ragged_sizes_under_every_timing(size: tuple[int, int, int], name: str, dtype: torch.dtype) -> None:
    one = case(name, size, dtype=dtype)
    for seed, copies in enumerate(("late", "early", "random")):
        check(one, SMALL, seed=seed, copies=copies)


@pytest.mark.parametrize(("name", "dtype"), [each for each in CASES if each[0] in PACKED], ids=str)
@pytest.mark.parametrize("group", [32, 64, 128, 256])
@pytest.mark.parametrize("tile", [SMALL, FEW], ids=str)
def test_groups_of_columns(group: int, name: str, dtype: torch.dtype, tile: PackedTile) -> None:
    k = 768 if group > 32 else 736  # with groups of 32 the last slab is half of one
    check(case(name, (20, 72, k), dtype=dtype, group=group, shares_k=tile is FEW), tile)


@pytest.mark.parametrize("dtype", KINDS[W4A16].dtypes)
@pytest.mark.parametrize("group", [0, 32, 128])
def test_zero_points(group: int, dtype: torch.dtype) -> None:
    check(case(W4A16, (20, 72, 384), dtype=dtype, group=group, asymmetric=True), SMALL)


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "dtype"), [each for each in CASES if each[0] in PACKED], ids=str)
def test_scales_are_of_any_dtype(name: str, dtype: torch.dtype, scale_dtype: torch.dtype) -> None:
    asymmetric = name == W4A16
    check(case(name, (20, 72, 256), dtype=dtype, group=64, asymmetric=asymmetric, scale_dtype=scale_dtype), SMALL)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("tile", [SMALL, FEW], ids=str)
def test_long_sums(name: str, tile: PackedTile) -> None:
    """Of INT8 above 2**24, where floats leave out numbers: also parts of a sum have to be added exactly."""
    group = 0 if KINDS[name].sparse else 128
    one = case(name, (20, 40, 8192), group=group, fill="positive", shares_k=tile is FEW)
    check(one, tile)
    if name == SPARSE_INT8:
        assert (one.expected / (one.epilogue.a_scale * one.epilogue.b_scale.T)).max() > 2**24


def test_int4_sums_of_one_scale_a_row_are_exact_up_to_the_largest_k() -> None:
    """16 times the sum of 127 * 7 for every column still fits INT32 here; twice as many would not."""
    one = case(W4A8, (1, 1, 65536), fill="positive")
    check(one, PackedTile(64, 64, 2, 32, 32, 1, 3))
    assert one.expected.abs().max() > 0


@pytest.mark.parametrize(("out_dtype", "out_scale"), OUTPUTS, ids=lambda value: str(value))
@pytest.mark.parametrize("n", [72, 77])  # rows that begin at multiples of 16 bytes, and rows that do not
# The ending knows of a kernel whether its sums are integers, and of a tile how many channels a warp has.
@pytest.mark.parametrize(
    ("name", "tile"), [(SPARSE_INT8, SMALL), (W4A8, PackedTile(128, 64, 1, 64, 32, 1, 2))], ids=str
)
def test_every_output_bit_for_bit(
    out_dtype: torch.dtype, out_scale: torch.Tensor | None, n: int, name: str, tile: PackedTile
) -> None:
    def ending(generator: torch.Generator) -> Epilogue:
        return Epilogue(
            ONE,
            ONE,
            bias=torch.randn(n, generator=generator).bfloat16(),
            residual=torch.randn(40, n, generator=generator).half(),
            gate=torch.randn(40, n, generator=generator),
            out_dtype=out_dtype,
            out_scale=out_scale,
        )

    one = case(name, (40, n, 96), ending=ending)
    out, _ = multiply_packed(one, tile)
    assert out.dtype == out_dtype
    assert torch.equal(out.view(torch.uint8), one.expected.view(torch.uint8))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_activations(activation: str) -> None:
    plain = case(W4A16, (33, 40, 128))
    one = case(W4A16, (33, 40, 128), ending=lambda _: Epilogue(ONE, ONE, None, activation, out_dtype=torch.float32))
    out, _ = multiply_packed(one, SMALL)
    # No slope is above 1.2; the functions of two libraries differ by some last bits of |x|.
    slack = 1.2 * one.allowed + plain.expected.abs() * 8 * 2.0**-24
    assert ((out - one.expected).abs() <= slack).all()
    assert not torch.allclose(out, plain.expected, atol=1e-2)


@pytest.mark.parametrize("n", [40, 43])
@pytest.mark.parametrize("name", views(6, 1))
@pytest.mark.parametrize("role", ["residual", "gate"])
def test_residuals_and_gates_are_read_where_they_lie(name: str, role: str, n: int) -> None:
    def ending(_: torch.Generator) -> Epilogue:
        plain, other = Epilogue(ONE, ONE, out_dtype=torch.float32), views(42, n)[name]
        return plain._replace(gate=other) if role == "gate" else plain._replace(residual=other)

    check(case(W4A8, (42, n, 64), ending=ending), SMALL)


def test_rows_of_a_may_be_strided() -> None:
    one = case(W4A16, (40, 40, 64))
    spread = torch.zeros(40, 96, dtype=torch.bfloat16)
    spread[:, 16:80] = one.a
    for a in (spread[:, 16:80], one.a.T.contiguous().T):
        out, _ = multiply_packed(Case(**{**vars(one), "a": a}), SMALL)
        assert ((out - one.expected).abs() <= one.allowed).all()


# Each tile with a 2:4 and with a 4-bit weight.
@pytest.mark.parametrize(
    ("name", "tile"),
    list(zip(KERNELS, 2 * (SMALL, FEW, PackedTile(64, 64, 1, 64, 32, 1, 2)), strict=True)),
    ids=str,
)
def test_every_sector_is_written_whole_by_as_many_instructions_as_it_takes(name: str, tile: PackedTile) -> None:
    m, n, k = tile.m, tile.n, 2 * tile.slabs * 64
    kind = KINDS[name]

    def ending(generator: torch.Generator) -> Epilogue:
        return Epilogue(ONE, ONE, residual=torch.randn(m, n, generator=generator))

    one = case(name, (m, n, k), group=0 if kind.sparse else 64, ending=ending)
    _, counts = multiply_packed(one, tile)
    assert counts.ldmatrix_phases > 0
    assert counts.global_bytes_written == m * n * 2 == counts.global_sectors_written * 32
    instruction = 16 * 8 * 32 * (2 if kind.sparse else 1) // kind.in_bytes
    assert counts.mma == m * n * k // instruction


@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_90a"])
@pytest.mark.parametrize("name", [name for name in KERNELS if name.startswith("sm80")])
def test_other_architectures(name: str, arch: str) -> None:
    check(case(name, (20, 40, 192)), SMALL, arch=arch)


def test_tiles_are_for_few_and_for_many_tokens() -> None:
    assert {tile.warps_k for tile in TILES} == {1, 2, 4, 8}
    assert INT8 in KINDS[W4A8].dtypes
