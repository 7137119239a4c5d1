"""Where M x N or M x K passes 2**31: the last block alone, on tensors of that size of which nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight, Prologue
from quant.kernels.layouts import int4_fragments, nibbles
from quant.kernels.matmuls import mma_gemm, mma_packed
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.mma_gemm import MmaTile
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.ops.int4_mm import reference as int4_mm_reference
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime.sources import shipped
from tests.emulator.emulator import EmulatorError, Mutation, compile_kernel, mutated
from tests.kernels.matmul_cases import INT8, operands

TILE = MmaTile(32, 64, 128, 16, 32, 4)


def _only(rows: slice, held: list[torch.Tensor], *written: torch.Tensor) -> list[tuple[torch.Tensor, bool]]:
    """These rows of what has one for each M: nothing else of it exists for the kernel."""
    long = max(len(tensor) for tensor in held)
    return [
        (tensor[rows] if len(tensor) == long else tensor, any(tensor is each for each in written)) for tensor in held
    ]


def _matmul(*mistakes: Mutation) -> None:
    """M = 200,000 (video tokens) by N = 16,384: 3.3e9 results."""
    m, n, k = 200_000, 16_384, 64
    a, b, generator = operands(m, n, k, INT8)
    a_scale, gate = torch.rand(m, 1, generator=generator), torch.empty(m, n, dtype=torch.float16)
    gate[-40:] = 2
    step = torch.tensor([50.0])
    epilogue = Epilogue(a_scale, torch.full((1, 1), 0.01), gate=gate, out_dtype=INT8, out_scale=step)
    planned = mma_gemm.INT8_GEMM.plan(a, b, epilogue, TILE)
    last = Mutation("mma_gemm.cuh", "(blockIdx.x, args.m", f"({planned.launch.grid - 1}u, args.m", "one block")
    sources = shipped()
    for change in (last, *mistakes):
        sources = mutated(sources, change)
    program = compile_kernel(planned.launch.build, "sm_80", sources=sources)
    tail = slice((m - 1) // TILE.m * TILE.m, m)
    program.run(planned.launch._replace(grid=1), _only(tail, planned.held, planned.out))
    part = Epilogue(a_scale[tail], epilogue.b_scale, gate=gate[tail], out_dtype=INT8, out_scale=step)
    expected = scaled_mm_reference(a[tail], b, part)[:, -TILE.n :]
    assert torch.equal(planned.out[tail, -TILE.n :], expected)


def test_results_of_a_matmul() -> None:
    _matmul()


@pytest.mark.parametrize(
    "mistake",
    [
        Mutation("mma_gemm.cuh", "static_cast<s64>(m) * args.n, n", "m * args.n, n", "32 bits in the result"),
        Mutation("rows.cuh", "inner * rows.inner_stride", "s32(inner) * s32(rows.inner_stride)", "32 bits in rows"),
    ],
    ids=lambda mistake: mistake.why,
)
def test_counting_in_32_bits_is_found(mistake: Mutation) -> None:
    with pytest.raises(EmulatorError, match="out of bounds"):
        _matmul(mistake)


def _packed(*mistakes: Mutation) -> None:
    """The same with the weight, of four bits, as left operand."""
    m, n, k, tile = 200_000, 16_384, 64, PackedTile(64, 64, 1, 32, 32, 1, 2)
    a, _, generator = operands(m, 1, k, INT8)
    values = torch.randint(-7, 8, (n, k), dtype=INT8, generator=generator)
    plain = Int4Weight(nibbles.pack(values), torch.full((n, 1), 0.01), None, n)
    a_scale, residual = torch.rand(m, 1, generator=generator), torch.empty(m, n, dtype=torch.float16)
    residual[-64:] = 2
    epilogue = Epilogue(a_scale, torch.ones(1, 1), residual=residual, out_dtype=torch.bfloat16)
    planned = mma_packed.W4A8.plan(a, weight_orders.packed(plain, int4_fragments.NAME_8, k), epilogue, tile)
    last = Mutation("mma_swap_ab.cuh", "(blockIdx.x, args.m", f"({planned.launch.grid - 1}u, args.m", "one block")
    sources = shipped()
    for change in (last, *mistakes):
        sources = mutated(sources, change)
    program = compile_kernel(planned.launch.build, "sm_80", sources=sources)
    tail = slice((m - 1) // tile.m * tile.m, m)
    program.run(planned.launch._replace(grid=1), _only(tail, planned.held, planned.out))
    part = Epilogue(a_scale[tail], epilogue.b_scale, residual=residual[tail], out_dtype=torch.bfloat16)
    expected = int4_mm_reference(a[tail], plain, part)[:, -tile.n :]
    assert torch.equal(planned.out[tail, -tile.n :], expected)


def test_results_of_a_matmul_with_the_weight_first() -> None:
    _packed()


def test_counting_its_results_in_32_bits_is_found() -> None:
    mistake = Mutation("swap_epilogue.cuh", "static_cast<s64>(token) * n", "token * n", "32 bits in the result")
    with pytest.raises(EmulatorError, match="out of bounds"):
        _packed(mistake)


def test_rows_of_a_quantization() -> None:
    m, k = 200_000, 13_824
    x = torch.empty(m, k, dtype=torch.bfloat16)
    x[-1:] = torch.randn(1, k)
    planned = rows_host.plan(x, INT8, None, Prologue())
    last = Mutation("quantize_rows.cu", "blockIdx.x * ROWS", f"{m - 1}u * ROWS", "one block")
    program = compile_kernel(planned.launch.build, "sm_80", sources=mutated(shipped(), last))
    program.run(planned.launch._replace(grid=1), _only(slice(m - 1, m), planned.held, planned.codes, planned.scale))
    codes, scale = quantize_rows_reference(x[-1:], INT8, None, Prologue())
    assert torch.equal(planned.codes[-1:], codes)
    assert torch.equal(planned.scale[-1:], scale)
