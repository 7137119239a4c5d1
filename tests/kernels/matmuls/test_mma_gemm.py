"""The matmul kernels of Ampere and Ada in the emulator: INT8 bit-equal to the reference, FP8 within a derived bound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import mma_gemm
from quant.kernels.matmuls.mma_gemm import TILES, MmaTile
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime.architectures import ARCHITECTURES
from tests.kernels.emulated import multiply
from tests.kernels.matmul_cases import FILLS, FP8, INT8, RAGGED, allowed, operands, scales

KERNELS = {INT8: mma_gemm.INT8_GEMM, FP8: mma_gemm.FP8_GEMM}
DTYPES = list(KERNELS)
SMALL = MmaTile(32, 64, 128, 16, 32, 4)
#: FP8 keeps its sums twice, which not every tile leaves registers for.
TILED = [
    *((tile, INT8) for tile in TILES),
    *((tile, FP8) for tile in mma_gemm.FP8_GEMM.tiles(ARCHITECTURES["sm_89"])),
]


def check(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: MmaTile, **options: Any) -> None:
    """Compares before the last rounding, in float32."""
    out, _ = multiply(KERNELS[a.dtype], a, b, epilogue, tile, **options)
    expected = scaled_mm_reference(a, b, epilogue)
    error, bound = (out - expected).abs(), allowed(a, b, epilogue)
    assert (error <= bound).all(), f"largest error {error.max()}, allowed there {bound.flatten()[error.argmax()]}"


@pytest.mark.parametrize(("tile", "dtype"), TILED, ids=str)
def test_every_tile_on_a_ragged_size(tile: MmaTile, dtype: torch.dtype) -> None:
    m, n, k = tile.m + 3, tile.n + 5, 3 * tile.k + 16
    a, b, generator = operands(m, n, k, dtype)
    check(a, b, Epilogue(*scales(m, n, k, "rows", generator), out_dtype=torch.float32), tile)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", RAGGED, ids=str)
def test_ragged_sizes_under_every_timing(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    a, b, generator = operands(*size, dtype)
    epilogue = Epilogue(
        *scales(*size, "rows", generator), torch.randn(size[1], generator=generator), out_dtype=torch.float32
    )
    for seed, copies in enumerate(("late", "early", "random")):
        check(a, b, epilogue, SMALL, seed=seed, copies=copies)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums(dtype: torch.dtype, fill: str) -> None:
    a, b, generator = operands(20, 40, 8192, dtype, fill)
    check(a, b, Epilogue(*scales(20, 40, 8192, "rows", generator), out_dtype=torch.float32), SMALL)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tensor", "mixed", "blocks", "blocks both"])
@pytest.mark.parametrize("tile", [SMALL, MmaTile(128, 128, 64, 64, 32, 4)], ids=str)
def test_scales(kind: str, dtype: torch.dtype, tile: MmaTile) -> None:
    size = (70, 200, 400)
    a, b, generator = operands(*size, dtype)
    epilogue = Epilogue(*scales(*size, kind, generator), torch.randn(200, generator=generator), out_dtype=torch.float32)
    check(a, b, epilogue, tile)


OUTPUTS = [
    (torch.float32, None),
    (torch.bfloat16, None),
    (torch.float16, None),
    (INT8, torch.tensor([0.03])),
    (FP8, torch.tensor([0.01])),
]


@pytest.mark.parametrize(("out_dtype", "out_scale"), OUTPUTS, ids=lambda value: str(value))
@pytest.mark.parametrize("n", [72, 77])  # rows that begin at multiples of 16 bytes, and rows that do not
@pytest.mark.parametrize("arch", ["sm_80", "sm_89"])
def test_every_output_bit_for_bit(out_dtype: torch.dtype, out_scale: torch.Tensor | None, n: int, arch: str) -> None:
    a, b, generator = operands(40, n, 96, INT8)
    epilogue = Epilogue(
        *scales(40, n, 96, "rows", generator),
        bias=torch.randn(n, generator=generator).bfloat16(),
        residual=torch.randn(40, n, generator=generator).half(),
        gate=torch.randn(40, n, generator=generator),
        out_dtype=out_dtype,
        out_scale=out_scale,
    )
    out, _ = multiply(mma_gemm.INT8_GEMM, a, b, epilogue, SMALL, arch=arch)
    expected = scaled_mm_reference(a, b, epilogue)
    assert out.dtype == out_dtype
    assert torch.equal(out.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(activation: str, dtype: torch.dtype) -> None:
    a, b, generator = operands(33, 40, 128, dtype)
    a_scale, b_scale = scales(33, 40, 128, "rows", generator)
    largest = (a.float().abs() @ b.float().abs().T * a_scale * b_scale.T).max()
    a_scale = a_scale * 20 / largest  # where activations bend
    epilogue = Epilogue(a_scale, b_scale, activation=activation, out_dtype=torch.float32)
    out, _ = multiply(KERNELS[dtype], a, b, epilogue, SMALL)
    expected = scaled_mm_reference(a, b, epilogue)
    # No slope is above 1.2. erf, tanh and exp of two libraries differ by some last bits of a factor of x, |x| <= 20.
    assert ((out - expected).abs() <= 1.2 * allowed(a, b, epilogue) + 20 * 8 * 2.0**-24).all()
    assert (out < 0).any()
    assert not torch.allclose(out, scaled_mm_reference(a, b, epilogue._replace(activation="none")), atol=1e-2)


def views(m: int, n: int) -> dict[str, torch.Tensor]:
    """Operands of 2 samples of 3 frames of m / 6 tokens, as they lie in a model's tensors."""
    wide = torch.randn(2, 3, m // 6, 2 * n)
    table = torch.randn(2, 6, n)
    return {
        "contiguous": torch.randn(m, n),
        "part of wider rows": wide[..., n:],
        "a gate a sample": table[:, 2, None, None].expand(2, 3, m // 6, n),
        "a gate a frame": torch.randn(2, 3, 1, n).expand(2, 3, m // 6, n),
        "the same for samples": torch.randn(1, 3, m // 6, n).expand(2, 3, m // 6, n),
        "one number a token": torch.randn(2, 3, m // 6, 1).expand(2, 3, m // 6, n),
        "one row for all": torch.randn(n).expand(m, n),
    }


@pytest.mark.parametrize("n", [40, 43])
@pytest.mark.parametrize("name", views(6, 1))
@pytest.mark.parametrize("role", ["residual", "gate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residuals_and_gates_are_read_where_they_lie(name: str, role: str, n: int, dtype: torch.dtype) -> None:
    m, k = 42, 48
    a, b, generator = operands(m, n, k, INT8)
    other = views(m, n)[name].to(dtype) if name == "contiguous" else views(m, n)[name]
    epilogue = Epilogue(*scales(m, n, k, "rows", generator), out_dtype=torch.float32)
    epilogue = epilogue._replace(gate=other) if role == "gate" else epilogue._replace(residual=other)
    check(a, b, epilogue, SMALL)


def test_rows_of_operands_may_be_strided() -> None:
    a, b, generator = operands(40, 40, 64, INT8)
    spread_a, spread_b = torch.zeros(40, 96, dtype=INT8), torch.zeros(40, 80, dtype=INT8)
    spread_a[:, 16:80], spread_b[:, :64] = a, b
    epilogue = Epilogue(*scales(40, 40, 64, "rows", generator), out_dtype=torch.float32)
    for left, right in ((spread_a[:, 16:80], spread_b[:, :64]), (a.T.contiguous().T, spread_a[:, 3:67])):
        out, _ = multiply(mma_gemm.INT8_GEMM, left, right, epilogue, SMALL)
        assert torch.equal(out, scaled_mm_reference(left, right, epilogue))


@pytest.mark.parametrize(("tile", "dtype"), TILED, ids=str)
def test_no_bank_is_met_twice_and_no_sector_read_for_less(tile: MmaTile, dtype: torch.dtype) -> None:
    m, n, k = tile.m, tile.n, 2 * tile.k
    a, b, generator = operands(m, n, k, dtype)
    epilogue = Epilogue(*scales(m, n, k, "tensor", generator), residual=torch.randn(m, n), out_dtype=torch.bfloat16)
    _, counts = multiply(KERNELS[dtype], a, b, epilogue, tile)
    assert counts.ldmatrix_phases > 0
    conflicts = (counts.ldmatrix_conflicts, counts.copy_conflicts)
    assert (*conflicts, counts.shared_load_conflicts, counts.shared_store_conflicts) == (0, 0, 0, 0)
    assert counts.global_bytes_written == m * n * 2 == counts.global_sectors_written * 32
    # Each operand once, the residual once, and two scales that every row's lanes read.
    assert counts.global_sectors_read * 32 <= (m + n) * k + m * n * 4 + m * n // 8 * 2 * 32
    assert counts.mma == m * n * k // (16 * 8 * 32)


def test_fast_sums_keep_fewer_bits() -> None:
    a, b, generator = operands(20, 40, 8192, FP8, "positive")
    epilogue = Epilogue(*scales(20, 40, 8192, "rows", generator), out_dtype=torch.float32)
    expected = scaled_mm_reference(a, b, epilogue)
    promoted, _ = multiply(mma_gemm.FP8_GEMM, a, b, epilogue, SMALL)
    fast, _ = multiply(mma_gemm.FP8_GEMM, a, b, epilogue._replace(fast_accumulate=True), SMALL)
    # 8192 / 32 instructions in a row, each of which drops up to 33 * 2**-13 of the sum so far.
    assert (fast - expected).abs().max() > 4 * (promoted - expected).abs().max()
    assert ((fast - expected).abs() <= 256 * 33 * 2.0**-13 * expected).all()
