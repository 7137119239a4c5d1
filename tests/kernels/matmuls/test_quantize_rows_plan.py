"""The launch of quantize_rows: threads enough for a row, rows enough for a tensor, and every address held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.arguments import Prologue
from quant.kernels.host.structures import DTYPES, NORMS
from quant.kernels.matmuls.quantize_rows import LARGEST_K, QUANTIZE_ROWS, build, plan, shared_bytes
from tests.kernels.matmuls.test_mma_gemm_plan import dangling, pointers

CODES = [torch.int8, torch.float8_e4m3fn]


@given(st.integers(1, LARGEST_K), st.sampled_from(CODES), st.sampled_from(list(NORMS)), st.booleans())
def test_the_registers_of_a_block_hold_a_row(k: int, dtype: torch.dtype, norm: str, in_pieces: bool) -> None:
    found = build(k, dtype, norm, aligned=in_pieces)
    sizes = dict(found.defines)
    assert (found.kernel, sizes["CODES"], sizes["NORM"]) == (QUANTIZE_ROWS.name, DTYPES[dtype], NORMS[norm])
    assert sizes["ALIGNED"] == in_pieces
    assert sizes["CHUNKS"] * 8 * sizes["THREADS"] >= k
    assert sizes["THREADS"] % 32 == 0
    assert sizes["THREADS"] * sizes["ROWS"] <= 640
    assert sizes["CHUNKS"] <= 8
    assert sizes["ROWS"] == 1 or sizes["THREADS"] == 32
    # No warp is without work, and no chunk.
    assert (sizes["CHUNKS"] - 1) * 8 * sizes["THREADS"] < k
    assert shared_bytes(found) == 3 * 4 * sizes["THREADS"] // 32


def test_the_largest_k_is_what_a_block_of_full_registers_holds() -> None:
    sizes = dict(build(LARGEST_K, torch.int8, "none").defines)
    assert sizes["CHUNKS"] * 8 * sizes["THREADS"] == LARGEST_K


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.sampled_from([1, 77, 256, 1025, 5120]))
def test_every_row_has_a_block(lead: list[int], k: int) -> None:
    x = torch.empty(*lead, k)
    launch = plan(x, torch.int8, None, Prologue()).launch
    rows = launch.block[1]
    m = x.numel() // k
    assert (launch.grid - 1) * rows < m <= launch.grid * rows or m == launch.grid == 0
    assert (launch.arguments.m, launch.arguments.k) == (m, k)
    assert launch.block == (dict(launch.build.defines)["THREADS"], dict(launch.build.defines)["ROWS"])
    assert launch.shared_bytes == shared_bytes(launch.build)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("static", [False, True])
def test_results_and_pointers(dtype: torch.dtype, static: bool) -> None:
    x = torch.randn(2, 3, 5, 40)[:, :, 1:4]
    scale = torch.rand(1) if static else None
    by, shift = torch.randn(2, 1, 1, 40), torch.randn(2, 3, 3, 80)[..., ::2]
    prologue = Prologue(torch.rand(40), "layer", torch.rand(40), torch.rand(40).half(), 1e-6, by, shift)
    planned = plan(x, dtype, scale, prologue)
    assert (planned.codes.shape, planned.codes.dtype) == (x.shape, dtype)
    assert planned.codes.is_contiguous()
    assert (planned.scale.shape, planned.scale.dtype) == ((1, 1) if static else (2, 3, 3, 1), torch.float32)
    assert dangling(planned.launch, planned.held) == []
    operands = ["x", "norm_weight", "norm_bias", "modulation_scale", "modulation_shift", "pre_quant_scale"]
    others = ["static_scale"] if static else []
    expected = [*(f"{name}.base" for name in operands), *others, "codes", "scales"]
    assert [name for name, _ in pointers(planned.launch.arguments)] == expected
    assert planned.launch.arguments.codes == planned.codes.data_ptr()
    assert planned.launch.arguments.scales == planned.scale.data_ptr()
    assert planned.launch.arguments.eps == pytest.approx(1e-6)


#: Operands of a prologue, with the shapes they may have for x [2, 3, k].
PARTS: dict[str, list[tuple[int, ...]]] = {
    "norm_weight": [()],
    "norm_bias": [()],
    "pre_quant_scale": [()],
    "modulation_scale": [(), (2, 1), (2, 3)],
    "modulation_shift": [(), (3,), (2, 1)],
}


@given(st.data(), st.sampled_from([8, 16, 24, 40, 4, 12, 33]))
def test_rows_are_read_in_pieces_only_where_every_row_of_every_operand_is_aligned(data: st.DataObject, k: int) -> None:
    def drawn(lead: tuple[int, ...]) -> torch.Tensor:
        dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
        start, behind = (data.draw(st.sampled_from([0, 0, 0, 1, 4, 8])) for _ in range(2))
        return torch.zeros(*lead, start + k + behind, dtype=dtype)[..., start : start + k]

    x = drawn((2, 3))
    names = data.draw(st.sets(st.sampled_from(list(PARTS))))
    parts: dict[str, Any] = {name: drawn(data.draw(st.sampled_from(PARTS[name]))) for name in names}
    planned = plan(x, torch.int8, None, Prologue(norm="layer", **parts))
    wide = [each.expand(2, 3, k) for each in (x, *parts.values())]
    rows = [each[i, j].data_ptr() for each in wide for i in range(2) for j in range(3)]
    in_pieces = k % 8 == 0 and all(address % 16 == 0 for address in rows)
    assert dict(planned.launch.build.defines)["ALIGNED"] == in_pieces


def test_without_a_prologue_only_the_rows_are_read() -> None:
    planned = plan(torch.randn(4, 16), torch.int8, None, Prologue())
    assert [name for name, _ in pointers(planned.launch.arguments)] == ["x.base", "codes", "scales"]


def test_a_static_scale_of_no_rows_is_there_without_a_launch() -> None:
    planned = plan(torch.empty(0, 16), torch.int8, torch.tensor([0.25]), Prologue())
    assert (planned.launch.grid, planned.scale.tolist()) == (0, [[0.25]])
