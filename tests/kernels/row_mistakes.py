"""Mistakes in quantize_rows.cu and what it includes."""

from __future__ import annotations

import torch

from quant.kernels.arguments import Prologue
from quant.kernels.matmuls.quantize_rows import QUANTIZE_ROWS
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from tests.emulator.emulator import Mutation
from tests.kernels.emulated import quantize
from tests.kernels.matmul_cases import FP8, INT8
from tests.kernels.mistakes import Check, Mistake, Sources

QUANTIZE, ROWS, NUMBERS = "quantize_rows.cu", "rows.cuh", "numbers.cuh"


def rows(x: torch.Tensor, dtype: torch.dtype, prologue: Prologue | None = None, *, static: bool = False) -> Check:
    """A quantization against its reference; with a norm, codes may differ by a step where sums were taken."""

    def check(sources: Sources) -> str | None:
        used = prologue or Prologue()
        scale = torch.tensor([0.11]) if static else None
        codes, found_scale, _ = quantize(x, dtype, scale, used, sources=sources)
        expected, expected_scale = quantize_rows_reference(x, dtype, scale, used)
        if used.norm == "none":
            same = torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))
            return None if same and torch.equal(found_scale, expected_scale) else "mismatch"
        near = torch.allclose(found_scale, expected_scale, rtol=1e-5)
        step = 1 if dtype == torch.int8 else 32
        return None if near and ((codes.float() - expected.float()).abs() <= step).all() else "mismatch"

    return check


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


_WIDE, _NARROW = _random(6, 1536), _random(6, 100)
_MODULATED = Prologue(
    modulation_scale=_random(2, 1, 1, 100), modulation_shift=_random(2, 1, 1, 100), pre_quant_scale=_random(100).abs()
)
#: Quotients halfway between two codes, for many scales: the last bit of a division decides.
_TIES = torch.tensor([[127.0, *(i + 0.5 for i in range(126))]]) * (_random(64, 1).abs() + 0.01)


def _mistake(before: str, after: str, why: str, check: Check, *shown: str, file: str = QUANTIZE) -> Mistake:
    return Mistake(QUANTIZE_ROWS.name, Mutation(file, before, after, why), check, shown)


ROW_MISTAKES: tuple[Mistake, ...] = (
    _mistake(
        "  __syncthreads();\n",
        "",
        "partial sums are read before all are there",
        rows(_WIDE, INT8),
        "race",
        "uninitialized",
    ),
    _mistake(
        "over_row<Sum, 1>",
        "over_row<Sum, 0>",
        "two sums share a place",
        rows(_WIDE, INT8, Prologue(norm="layer")),
        "race",
    ),
    _mistake(
        "distance = 16",
        "distance = 8",
        "half a warp is left out",
        rows(_WIDE[:, :256], INT8),
        "mismatch",
    ),
    _mistake(
        "args.m) return",
        "args.m + 1) return",
        "one row too many",
        rows(_NARROW[:3], INT8),
        "out of bounds",
    ),
    _mistake(
        "amax / LARGEST,",
        "amax * (1.0f / LARGEST),",
        "a product instead of a quotient",
        rows(_TIES, INT8),
        "mismatch",
    ),
    _mistake(
        "values[i] / scale;",
        "values[i] * (1.0f / scale);",
        "a reciprocal instead of a quotient",
        rows(_TIES, INT8),
        "mismatch",
    ),
    _mistake(
        "amax == 0.0f ? 1.0f : ",
        "",
        "a row of zeros has no scale of 1",
        rows(torch.zeros(2, 8), INT8),
        "mismatch",
    ),
    _mistake(
        "if (column(chunk) + i < k) result",
        "result",
        "what lies behind the row is counted",
        rows(_NARROW[:, :77] + 9, INT8, Prologue(norm="layer")),
        "mismatch",
    ),
    _mistake(
        "    row.each([=](float x) { return x - mean; });\n",
        "",
        "the mean is not taken off",
        rows(_WIDE + 9, INT8, Prologue(norm="layer")),
        "mismatch",
    ),
    _mistake(
        "x * (1.0f + scale)",
        "x * scale",
        "a modulation of 0 would be nothing",
        rows(_NARROW.view(2, 3, 1, 100), INT8, _MODULATED),
        "mismatch",
    ),
    _mistake(
        "if (m == 0 && threadIdx.x == 0)",
        "if (threadIdx.x == 0)",
        "every row writes the static scale",
        rows(_NARROW, INT8, static=True),
        "race",
    ),
    _mistake(
        "  if constexpr (ALIGNED) {\n    store",
        "  if constexpr (true) {\n    store",
        "rows of codes that begin anywhere are written 8 at once",
        rows(_NARROW[:, :77], INT8),
        "misaligned",
        file=ROWS,
    ),
    _mistake(
        "rest / rows.middle * rows.outer_stride",
        "rest * rows.outer_stride",
        "the modulation of another sample",
        rows(_NARROW.view(2, 3, 1, 100), INT8, _MODULATED),
        "mismatch",
        "out of bounds",
        file=ROWS,
    ),
    _mistake(
        "0x7ffff + (bits >> 20 & 1)",
        "0x80000",
        "ties away from zero",
        rows(torch.tensor([[448.0, 17.0, 19.0]]), FP8),
        "mismatch",
        file=NUMBERS,
    ),
    _mistake(
        "sign | static_cast<u32>(__float2int_rn(magnitude * 512.0f))",
        "sign",
        "subnormal codes become zero",
        rows(torch.tensor([[448.0, 0.01]]), FP8),
        "mismatch",
        file=NUMBERS,
    ),
    _mistake(
        "saturated(x, LARGEST_S8)",
        "x",
        "codes wrap",
        rows(_NARROW * 100, INT8, static=True),
        "mismatch",
        file=NUMBERS,
    ),
)
