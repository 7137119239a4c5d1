"""The launch of a matmul: every block and address that it needs, and none of memory that could be freed before it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.arguments import Epilogue
from quant.kernels.host.epilogue import PARTS
from quant.kernels.host.structures import ACTIVATIONS, DTYPES
from quant.kernels.matmuls import mma_gemm
from quant.kernels.matmuls.mma_gemm import TILES, MmaTile
from quant.kernels.runtime.launch import Launch

TILE = MmaTile(64, 64, 128, 32, 32, 3)
OUTPUTS = [torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.float8_e4m3fn]


def pointers(structure: ctypes.Structure, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The address in every pointer of a structure and of those within it, but nulls."""
    for name, of, *_ in structure._fields_:
        value = getattr(structure, name)
        if isinstance(value, ctypes.Structure):
            yield from pointers(value, f"{prefix}{name}.")
        elif of is ctypes.c_void_p and value is not None:
            yield f"{prefix}{name}", value


def dangling(launch: Launch, held: list[torch.Tensor]) -> list[str]:
    """The pointers of a launch that lead into none of the tensors held for it."""
    ends = [x.data_ptr() + x.untyped_storage().nbytes() - x.storage_offset() * x.itemsize for x in held]
    spans = [(x.data_ptr(), end) for x, end in zip(held, ends, strict=True)]
    return [name for name, at in pointers(launch.arguments) if not any(begin <= at < end for begin, end in spans)]


def codes(rows: int, k: int) -> torch.Tensor:
    return torch.randint(-127, 128, (rows, k), dtype=torch.int8)


def epilogue(m: int, n: int, out_dtype: torch.dtype = torch.bfloat16) -> Epilogue:
    """With everything there is."""
    return Epilogue(
        torch.rand(m, 1),
        torch.rand(n, 1),
        bias=torch.randn(n),
        activation="silu",
        residual=torch.randn(m, 2 * n)[:, ::2],
        gate=torch.randn(1, n).expand(m, n),
        out_dtype=out_dtype,
        out_scale=torch.ones(1) if out_dtype.itemsize == 1 else None,
    )


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(st.integers(0, 700), st.integers(0, 700))
def test_blocks_cover_the_result(tile: MmaTile, m: int, n: int) -> None:
    launch = mma_gemm.INT8_GEMM.plan(codes(m, 16), codes(n, 16), epilogue(m, n), tile).launch
    covered = {(row // tile.m, column // tile.n) for row in range(m) for column in range(0, n, 16)}
    assert launch.grid == len(covered)
    assert launch.block == (tile.threads, 1)
    assert launch.shared_bytes == tile.shared_bytes


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize(("m", "n", "k"), [(5, 72, 77), (33, 40, 128), (1, 1, 1)])
def test_what_is_compiled_and_what_it_fills(m: int, n: int, k: int, out_dtype: torch.dtype) -> None:
    planned = mma_gemm.INT8_GEMM.plan(codes(m, k), codes(n, k), epilogue(m, n, out_dtype), TILE)
    build, arguments = planned.launch.build, planned.launch.arguments
    assert build.kernel == "sm80_int8_gemm"
    assert dict(build.defines) == {
        **{"TILE_M": 64, "TILE_N": 64, "TILE_K": 128, "WARP_M": 32, "WARP_N": 32, "STAGES": 3},
        **{"OUT": DTYPES[out_dtype], "ACTIVATE": ACTIVATIONS["silu"], "BLOCK_SCALES": 0},
        **{"PARTS": PARTS["bias"] | PARTS["gate"] | PARTS["residual"] | PARTS["one_b_scale"] * (n == 1)},
        **{"ALIGNED": n % 8 == 0, "FAST_SUMS": 0},
    }
    assert (planned.out.shape, planned.out.dtype, planned.out.is_contiguous()) == ((m, n), out_dtype, True)
    assert arguments.out == planned.out.data_ptr()
    assert (arguments.m, arguments.n, arguments.k) == (m, n, -(-k // 16) * 16)


@pytest.mark.parametrize("k", [64, 77])
@pytest.mark.parametrize("kind", ["everything", "nothing", "blocks", "blocks both"])
def test_every_pointer_leads_into_a_tensor_that_is_held(k: int, kind: str) -> None:
    m, n = 5, 200
    ends = {
        "everything": epilogue(m, n, torch.int8),
        "nothing": Epilogue(torch.rand(1, 1), torch.rand(1, 1)),
        "blocks": Epilogue(torch.rand(m, 1), torch.rand(1, 2).T),
        "blocks both": Epilogue(torch.rand(3, m).T, torch.rand(3, 2).T),
    }[kind]
    k = 2 * 128 + k if kind == "blocks both" else k
    planned = mma_gemm.INT8_GEMM.plan(codes(m, k), codes(n, k), ends, TILE)
    assert dangling(planned.launch, planned.held) == []
    parts = {
        "everything": ["b_scale.base", "bias.base", "residual.base", "gate.base", "a_scale", "out_scale"],
        "nothing": ["b_scale.base", "a_scale"],
        "blocks": ["a_scale"],
        "blocks both": [],
    }[kind]
    blocks = {"blocks": ["b_block_scales"], "blocks both": ["b_block_scales", "a_block_scales"]}.get(kind, [])
    given_away = [name for name, _ in pointers(planned.launch.arguments)]
    assert given_away == ["a", "b", "out", *blocks, *(f"epilogue.{part}" for part in parts)]
    assert dict(planned.launch.build.defines)["BLOCK_SCALES"] == len(blocks)


@pytest.mark.parametrize("scale", [torch.rand(5, 1), torch.rand(5, 3)[:, 1:2], torch.rand(1, 5).T, torch.rand(1, 1)])
def test_the_scale_of_each_row_is_found_by_its_stride(scale: torch.Tensor) -> None:
    arguments = mma_gemm.INT8_GEMM.plan(codes(5, 16), codes(8, 16), Epilogue(scale, torch.rand(8, 1)), TILE)
    end = arguments.launch.arguments.epilogue
    found = [ctypes.c_float.from_address(end.a_scale + 4 * m * end.a_scale_stride).value for m in range(5)]
    assert found == scale.expand(5, 1).flatten().tolist()


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize("n", range(1, 33))
def test_results_are_written_in_one_piece_only_where_every_row_is_aligned(n: int, out_dtype: torch.dtype) -> None:
    planned = mma_gemm.INT8_GEMM.plan(codes(3, 16), codes(n, 16), epilogue(3, n, out_dtype), TILE)
    piece = 8 * out_dtype.itemsize  # of 8 elements, which every row consists of
    rows = [planned.out.data_ptr() + m * n * out_dtype.itemsize for m in range(3)]
    in_pieces = n * out_dtype.itemsize % piece == 0 and all(row % min(piece, 16) == 0 for row in rows)
    assert dict(planned.launch.build.defines)["ALIGNED"] == in_pieces


@pytest.mark.parametrize("k", [128, 129, 1000, 5120])
def test_scales_by_block_are_one_for_each_128_of_the_k_that_was_given(k: int) -> None:
    scales = Epilogue(torch.rand(2, 1), torch.rand(2, -(-k // 128)))
    planned = mma_gemm.INT8_GEMM.plan(codes(2, k), codes(130, k), scales, TILE)
    assert planned.launch.arguments.k_blocks == scales.b_scale.shape[1]
