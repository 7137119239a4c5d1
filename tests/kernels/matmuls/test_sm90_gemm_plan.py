"""The launch of a matmul on Hopper: whole clusters that stay, and maps that lead to the operands and nowhere else."""

from __future__ import annotations

import ctypes

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.arguments import Epilogue
from quant.kernels.host.epilogue import PARTS
from quant.kernels.host.operands import Multiplied
from quant.kernels.host.structures import ACTIVATIONS, DTYPES, HopperArguments
from quant.kernels.matmuls import sm90_gemm
from quant.kernels.matmuls.sm90_gemm import TILES, HopperTile
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.launch import TensorMap
from tests.kernels.matmuls.test_mma_gemm_plan import OUTPUTS, codes, dangling, epilogue, pointers

TILE, CLUSTERED = HopperTile(128, 1, 64, 2, 1), HopperTile(128, 2, 64, 2, 2)
PLAIN = Epilogue(torch.ones(1, 1), torch.ones(1, 1))
#: cuTensorMapEncodeTiled takes no more rows, nor more bytes where they are swizzled in 128.
MOST_BOX_ROWS, MOST_BOX_BYTES = 256, 128


def plan(
    a: torch.Tensor, b: torch.Tensor, ends: Epilogue = PLAIN, tile: HopperTile = TILE, multiprocessors: int = 132
) -> Multiplied:
    kernel = sm90_gemm.INT8_GEMM if a.dtype == torch.int8 else sm90_gemm.FP8_GEMM
    return kernel.plan(a, b, ends, tile, multiprocessors=multiprocessors)


def maps(planned: Multiplied) -> dict[str, TensorMap]:
    found = dict(planned.launch.maps)
    assert len(found) == len(planned.launch.maps)
    return found


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(st.integers(0, 1500), st.integers(0, 700), st.integers(2, 132))
def test_whole_clusters_for_all_tiles_or_as_many_as_stay_on_the_device(
    tile: HopperTile, m: int, n: int, multiprocessors: int
) -> None:
    launch = plan(codes(m, 16), codes(n, 16), epilogue(m, n), tile, multiprocessors).launch
    tall = tile.m * tile.cluster
    tiles = {(row // tall, column // tile.n) for row in range(0, m, 64) for column in range(0, n, 16)}
    assert launch.grid % tile.cluster == 0
    assert launch.grid <= multiprocessors * tile.resident
    assert launch.grid == min(len(tiles), multiprocessors * tile.resident // tile.cluster) * tile.cluster
    assert launch.cluster == tile.cluster == dict(launch.build.defines)["CLUSTER"]
    assert launch.block == (tile.threads, 1)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_shared_memory_fits_a_block(tile: HopperTile) -> None:
    launch = plan(codes(5, 16), codes(8, 16), tile=tile).launch
    assert launch.shared_bytes == tile.shared_bytes <= 227 * 1024 == ARCHITECTURES["sm_90a"].shared_bytes_per_block


@pytest.mark.parametrize("out_dtype", OUTPUTS)
@pytest.mark.parametrize(("m", "n", "k"), [(5, 72, 77), (33, 48, 128), (1, 1, 1)])
def test_what_is_compiled_and_what_it_fills(m: int, n: int, k: int, out_dtype: torch.dtype) -> None:
    planned = plan(codes(m, k), codes(n, k), epilogue(m, n, out_dtype), HopperTile(128, 2, 64, 3, 2))
    build, arguments = planned.launch.build, planned.launch.arguments
    assert isinstance(arguments, HopperArguments)
    assert build.kernel == "sm90_int8_gemm"
    assert dict(build.defines) == {
        **{"TILE_N": 128, "GROUPS": 2, "GROUP_M": 64, "STAGES": 3, "CLUSTER": 2},
        **{"STAGED": n * out_dtype.itemsize % 16 == 0 and n != 1},
        **{"OUT": DTYPES[out_dtype], "ACTIVATE": ACTIVATIONS["silu"], "BLOCK_SCALES": 0},
        **{"PARTS": PARTS["bias"] | PARTS["gate"] | PARTS["residual"] | PARTS["one_b_scale"] * (n == 1)},
        **{"ALIGNED": n % 8 == 0, "FAST_SUMS": 0},
    }
    assert (planned.out.shape, planned.out.dtype, planned.out.is_contiguous()) == ((m, n), out_dtype, True)
    assert arguments.result == planned.out.data_ptr()
    assert (arguments.m, arguments.n, arguments.k) == (m, n, -(-k // 16) * 16)
    assert arguments.k_blocks == -(-k // 128)


@pytest.mark.parametrize("kernel", [sm90_gemm.INT8_GEMM, sm90_gemm.FP8_GEMM])
def test_the_kernel_is_the_one_asked_for(kernel: sm90_gemm.Sm90Gemm) -> None:
    assert kernel.plan(codes(5, 16), codes(8, 16), PLAIN, TILE, multiprocessors=9).launch.build[0] == kernel.name


@pytest.mark.parametrize("tile", TILES, ids=str)
@given(st.data(), st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_maps_are_of_the_operands(tile: HopperTile, data: st.DataObject, m: int, n: int, k: int) -> None:
    def drawn(rows: int) -> torch.Tensor:
        start, behind = (data.draw(st.sampled_from([0, 0, 1, 16])) for _ in range(2))
        return codes(rows, start + k + behind)[:, start : start + k]

    a, b = drawn(m), drawn(n)
    planned = plan(a, b, PLAIN, tile)
    found = maps(planned)
    boxes = {"a": tile.m, "b": tile.n // tile.cluster}
    for name, given_codes in (("a", a), ("b", b)):
        each = found[name]
        assert (each.rows, each.row_bytes) == (len(given_codes), planned.launch.arguments.k)
        for row, expected in enumerate(given_codes):
            read = ctypes.string_at(each.address + row * each.stride, each.row_bytes)
            assert read == bytes(expected.view(torch.uint8).tolist()).ljust(each.row_bytes, b"\0")
        assert (each.box_rows, each.box_bytes) == (boxes[name], 128)
    for each in found.values():
        assert each.address % 16 == each.stride % 16 == each.row_bytes % 16 == 0
        assert 0 < each.box_rows <= MOST_BOX_ROWS
        assert 0 < each.box_bytes <= MOST_BOX_BYTES
        # A box begins where the swizzle of 8 rows of 128 bytes does.
        assert each.box_rows % 8 == 0
    # What a block waits for is what its own box of a and the boxes of b of its cluster bring.
    brought = found["a"].box_rows + tile.cluster * found["b"].box_rows
    assert brought * 128 == (tile.m + tile.n) * 128 == (tile.shared_bytes - 2 * tile.groups * 8192) // tile.stages - 16


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("out_dtype", OUTPUTS)
@given(st.integers(1, 300), st.booleans())
def test_results_are_staged_where_the_copy_engine_takes_them(
    tile: HopperTile, out_dtype: torch.dtype, n: int, shifted: bool
) -> None:
    bias = torch.randn(n + 1)[1:] if shifted else torch.randn(n)
    planned = plan(codes(3, 16), codes(n, 16), epilogue(3, n, out_dtype)._replace(bias=bias), tile)
    macros = dict(planned.launch.build.defines)
    rows = [planned.out.data_ptr() + m * n * out_dtype.itemsize for m in range(4)]
    whole_rows = all(row % 16 == 0 for row in rows)
    whole_boxes = tile.n * out_dtype.itemsize % 128 == 0
    assert macros["STAGED"] == (whole_rows and whole_boxes and bool(macros["ALIGNED"]))
    assert list(maps(planned)) == (["a", "b", "out"] if macros["STAGED"] else ["a", "b"])
    if macros["STAGED"]:
        row = n * out_dtype.itemsize
        assert maps(planned)["out"] == TensorMap(planned.out.data_ptr(), 3, row, row, 64, 128)
    if shifted:
        assert not macros["STAGED"]


def test_a_usual_result_is_staged() -> None:
    """The test above would hold of a rule that never stages."""
    staged = {
        (tile.n, out.itemsize)
        for tile in TILES
        for out in OUTPUTS
        if dict(plan(codes(3, 16), codes(64, 16), epilogue(3, 64, out), tile).launch.build.defines)["STAGED"]
    }
    assert staged == {(n, size) for n in (32, 64, 128, 192, 256) for size in (1, 2, 4) if n * size % 128 == 0}


def test_maps_name_fields_that_hold_one() -> None:
    planned = plan(codes(5, 16), codes(8, 16), epilogue(5, 8))
    assert list(maps(planned)) == ["a", "b", "out"]
    assert all(getattr(HopperArguments, name).size == 128 for name in maps(planned))
    assert all(bytes(getattr(planned.launch.arguments, name)) == bytes(128) for name in maps(planned))


@pytest.mark.parametrize("k", [64, 77])
@pytest.mark.parametrize("kind", ["everything", "nothing", "blocks", "blocks both"])
@pytest.mark.parametrize("tile", [TILE, CLUSTERED], ids=str)
def test_every_address_leads_into_a_tensor_that_is_held(tile: HopperTile, k: int, kind: str) -> None:
    m, n = 5, 208
    ends = {
        "everything": epilogue(m, n, torch.int8),
        "nothing": Epilogue(torch.rand(1, 1), torch.rand(1, 1)),
        "blocks": Epilogue(torch.rand(m, 1), torch.rand(1, 2).T),
        "blocks both": Epilogue(torch.rand(3, m).T, torch.rand(3, 2).T),
    }[kind]
    k = 2 * 128 + k if kind == "blocks both" else k
    planned = plan(codes(m, k), codes(n, k), ends, tile)
    assert dangling(planned.launch, planned.held) == []
    parts = {
        "everything": ["b_scale.base", "bias.base", "residual.base", "gate.base", "a_scale", "out_scale"],
        "nothing": ["b_scale.base", "a_scale"],
        "blocks": ["a_scale"],
        "blocks both": [],
    }[kind]
    blocks = {"blocks": ["b_block_scales"], "blocks both": ["b_block_scales", "a_block_scales"]}.get(kind, [])
    given_away = [name for name, _ in pointers(planned.launch.arguments)]
    assert given_away == ["result", *blocks, *(f"epilogue.{part}" for part in parts)]
    assert dict(planned.launch.build.defines)["BLOCK_SCALES"] == len(blocks)
    spans = [(x.data_ptr(), x.data_ptr() + x.untyped_storage().nbytes()) for x in planned.held]
    assert list(maps(planned)) == ["a", "b", "out"]
    for each in maps(planned).values():
        end = each.address + (each.rows - 1) * each.stride + each.row_bytes
        assert any(begin <= each.address and end <= last for begin, last in spans)


@pytest.mark.parametrize("scale", [torch.rand(5, 1), torch.rand(5, 3)[:, 1:2], torch.rand(1, 1)])
def test_the_scale_of_each_row_is_found_by_its_stride(scale: torch.Tensor) -> None:
    end = plan(codes(5, 16), codes(8, 16), Epilogue(scale, torch.rand(8, 1))).launch.arguments.epilogue
    found = [ctypes.c_float.from_address(end.a_scale + 4 * m * end.a_scale_stride).value for m in range(5)]
    assert found == scale.expand(5, 1).flatten().tolist()


def test_codes_that_lie_right_are_not_copied() -> None:
    a, b = codes(5, 96)[:, 16:80], codes(8, 64)
    found = maps(plan(a, b))
    assert (found["a"].address, found["a"].stride, found["b"].address) == (a.data_ptr(), 96, b.data_ptr())


@pytest.mark.parametrize("k", [128, 129, 1000, 5120])
def test_scales_by_block_are_one_for_each_128_of_the_k_that_was_given(k: int) -> None:
    scales = Epilogue(torch.rand(2, 1), torch.rand(2, -(-k // 128)))
    assert plan(codes(2, k), codes(130, k), scales).launch.arguments.k_blocks == scales.b_scale.shape[1]


def test_rows_of_more_than_2_to_31_bytes_are_stored_by_threads() -> None:
    tile = HopperTile(128, 2, 64, 4, 1)
    assert sm90_gemm.is_staged(tile, 2**29 - 32, 4, aligned=True)
    assert not sm90_gemm.is_staged(tile, 2**29, 4, aligned=True)


def test_one_multiprocessor_has_one_cluster() -> None:
    a, b = (torch.zeros(rows, 64, dtype=torch.int8) for rows in (300, 300))
    assert plan(a, b, tile=CLUSTERED, multiprocessors=1).launch.grid == 2
    clocks = [sm90_gemm.INT8_GEMM.clocks(CLUSTERED, 300, 300, 64, ARCHITECTURES["sm_90a"], few) for few in (1, 4)]
    assert clocks[0] > clocks[1]


def test_rows_that_lie_on_each_other_are_copied() -> None:
    a, b = torch.ones(1, 64, dtype=torch.int8).expand(300, 64), torch.ones(40, 64, dtype=torch.int8)
    assert maps(plan(a, b))["a"].stride == 64
