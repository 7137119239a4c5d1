"""The matmul kernels of Hopper in the emulator: INT8 bit-equal to the reference, FP8 within a derived bound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import sm90_gemm
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime.architectures import ARCHITECTURES
from tests.kernels.emulated import multiply
from tests.kernels.matmul_cases import FILLS, FP8, INT8, RAGGED, allowed, operands, scales
from tests.kernels.matmuls.test_mma_gemm import OUTPUTS, views

KERNELS = {INT8: sm90_gemm.INT8_GEMM, FP8: sm90_gemm.FP8_GEMM}
DTYPES = list(KERNELS)
#: Few stages, so that the ring of them is gone round several times.
SMALL = HopperTile(64, 1, 64, 2, 1)
TWO_GROUPS = HopperTile(128, 2, 64, 3, 1)
CLUSTER = HopperTile(128, 2, 64, 2, 2)
TILED = [(tile, dtype) for dtype in DTYPES for tile in KERNELS[dtype].tiles(ARCHITECTURES["sm_90a"])]


def check(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: HopperTile, **options: Any) -> None:
    """Compares before the last rounding, in float32."""
    out, _ = multiply(KERNELS[a.dtype], a, b, epilogue, tile, **options)
    expected = scaled_mm_reference(a, b, epilogue)
    error, bound = (out - expected).abs(), allowed(a, b, epilogue)
    assert (error <= bound).all(), f"largest error {error.max()}, allowed there {bound.flatten()[error.argmax()]}"


@pytest.mark.parametrize(("tile", "dtype"), TILED, ids=str)
def test_every_tile_on_a_ragged_size(tile: HopperTile, dtype: torch.dtype) -> None:
    m, n, k = tile.m * tile.cluster + 24, tile.n + 16, 272
    a, b, generator = operands(m, n, k, dtype)
    check(a, b, Epilogue(*scales(m, n, k, "rows", generator), out_dtype=torch.float32), tile, multiprocessors=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", RAGGED, ids=str)
def test_ragged_sizes_under_every_timing(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    a, b, generator = operands(*size, dtype)
    bias = torch.randn(size[1], generator=generator)
    epilogue = Epilogue(*scales(*size, "rows", generator), bias, out_dtype=torch.float32)
    for seed, copies in enumerate(("late", "early", "random")):
        check(a, b, epilogue, SMALL, seed=seed, copies=copies, multiprocessors=1 + seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile", [TWO_GROUPS, CLUSTER], ids=str)
@pytest.mark.parametrize("size", [(1, 128, 128), (300, 264, 400), (513, 128, 1040)], ids=str)
def test_two_warpgroups_and_two_blocks(size: tuple[int, int, int], tile: HopperTile, dtype: torch.dtype) -> None:
    a, b, generator = operands(*size, dtype)
    epilogue = Epilogue(*scales(*size, "rows", generator), out_dtype=torch.float32)
    for seed, copies in enumerate(("late", "early", "random")):
        check(a, b, epilogue, tile, seed=seed, copies=copies)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums(dtype: torch.dtype, fill: str) -> None:
    a, b, generator = operands(20, 40, 8192, dtype, fill)
    check(a, b, Epilogue(*scales(20, 40, 8192, "rows", generator), out_dtype=torch.float32), SMALL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tensor", "mixed", "blocks", "blocks both"])
@pytest.mark.parametrize("tile", [SMALL, CLUSTER], ids=str)
def test_scales(kind: str, dtype: torch.dtype, tile: HopperTile) -> None:
    size = (140, 200, 400)
    a, b, generator = operands(*size, dtype)
    bias = torch.randn(200, generator=generator)
    check(a, b, Epilogue(*scales(*size, kind, generator), bias, out_dtype=torch.float32), tile)


@pytest.mark.parametrize(("out_dtype", "out_scale"), OUTPUTS, ids=str)
# Rows of whole 16 bytes leave by the copy engine, others by threads; 136 codes are 8 bytes too many or too few for it.
@pytest.mark.parametrize("n", [144, 136, 77])
@pytest.mark.parametrize("tile", [TWO_GROUPS, SMALL], ids=str)
def test_every_output_bit_for_bit(
    out_dtype: torch.dtype, out_scale: torch.Tensor | None, n: int, tile: HopperTile
) -> None:
    m, k = 70, 96
    a, b, generator = operands(m, n, k, INT8)
    epilogue = Epilogue(
        *scales(m, n, k, "rows", generator),
        bias=torch.randn(n, generator=generator).bfloat16(),
        residual=torch.randn(m, n, generator=generator).half(),
        gate=torch.randn(m, n, generator=generator),
        out_dtype=out_dtype,
        out_scale=out_scale,
    )
    out, _ = multiply(sm90_gemm.INT8_GEMM, a, b, epilogue, tile)
    expected = scaled_mm_reference(a, b, epilogue)
    assert out.dtype == out_dtype
    assert torch.equal(out.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(activation: str, dtype: torch.dtype) -> None:
    a, b, generator = operands(33, 40, 128, dtype)
    a_scale, b_scale = scales(33, 40, 128, "rows", generator)
    largest = (a.float().abs() @ b.float().abs().T * a_scale * b_scale.T).max()
    epilogue = Epilogue(a_scale * 20 / largest, b_scale, activation=activation, out_dtype=torch.float32)
    out, _ = multiply(KERNELS[dtype], a, b, epilogue, SMALL)
    expected = scaled_mm_reference(a, b, epilogue)
    # No slope is above 1.2. erf, tanh and exp of two libraries differ by some last bits of a factor of x, |x| <= 20.
    assert ((out - expected).abs() <= 1.2 * allowed(a, b, epilogue) + 20 * 8 * 2.0**-24).all()
    assert (out < 0).any()


@pytest.mark.parametrize("n", [40, 43])
@pytest.mark.parametrize("name", views(6, 1))
@pytest.mark.parametrize("role", ["residual", "gate"])
def test_residuals_and_gates_are_read_where_they_lie(name: str, role: str, n: int) -> None:
    m, k = 42, 48
    a, b, generator = operands(m, n, k, INT8)
    other = views(m, n)[name]
    epilogue = Epilogue(*scales(m, n, k, "rows", generator), out_dtype=torch.float32)
    epilogue = epilogue._replace(gate=other) if role == "gate" else epilogue._replace(residual=other)
    check(a, b, epilogue, SMALL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float16])
def test_no_bank_is_met_twice_on_the_way_out(dtype: torch.dtype, out_dtype: torch.dtype) -> None:
    m, n, k = 256, 256, 256
    a, b, generator = operands(m, n, k, dtype)
    epilogue = Epilogue(*scales(m, n, k, "rows", generator), out_dtype=out_dtype)
    _, counts = multiply(KERNELS[dtype], a, b, epilogue, TWO_GROUPS)
    assert counts.stmatrix_phases > 0
    assert counts.stmatrix_conflicts == 0
