"""The launches of kernels whose left operand is the weight: sizes, strides and maps, by hand."""

from __future__ import annotations

import pytest
import torch

from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.layouts import int4_fragments, mma_sparse24, nibbles, sparse24, wgmma_sparse24
from quant.kernels.matmuls import mma_packed, sm90_packed
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.sm90_packed import HopperPackedTile
from quant.kernels.runtime.launch import TensorMap

ONE = torch.ones(1, 1)
EPILOGUE = Epilogue(ONE, ONE)
MMA = PackedTile(64, 32, 2, 32, 32, 1, 3)
HOPPER = HopperPackedTile(64, 2, 64, 3, 2)


def int4(n: int, k: int) -> Int4Weight:
    packed = nibbles.pack(torch.zeros(n, k, dtype=torch.int8))
    scale = int4_fragments.pack_groups(torch.ones(n, 1, dtype=torch.bfloat16))
    return Int4Weight(int4_fragments.pack(packed, k, int4_fragments.NAME_16), scale, None, n, int4_fragments.NAME_16)


def sparse(n: int, k: int, dtype: torch.dtype, *, hopper: bool) -> Sparse24Weight:
    order = wgmma_sparse24 if hopper else mma_sparse24
    values, meta = order.pack(*sparse24.compress(torch.zeros(n, k, dtype=dtype)))
    return Sparse24Weight(values, meta, n, order.NAME)


def test_sizes_on_ampere() -> None:
    a, weight = torch.zeros(70, 200, dtype=torch.bfloat16), int4(100, 200)
    planned = mma_packed.W4A16.plan(a, weight, EPILOGUE, MMA)
    arguments = planned.launch.arguments
    assert (arguments.m, arguments.n, arguments.k, arguments.a_stride) == (70, 100, 400, 400)
    assert (arguments.slabs, arguments.blocks) == (4, 7)
    assert (arguments.weight, arguments.metadata) == (weight.packed.data_ptr(), None)
    assert planned.launch.grid == 3 * 2  # of 32 tokens and of 64 channels
    assert planned.launch.block == (64, 1)
    assert planned.launch.shared_bytes == 3 * (2 * 32 * 128 + 2 * 4 * 512)
    assert (planned.out.shape, planned.out.dtype) == ((70, 100), torch.bfloat16)
    defines = dict(planned.launch.build.defines)
    assert (defines["TILE_N"], defines["TILE_M"], defines["SLABS"]) == (64, 32, 2)


def test_metadata_on_ampere() -> None:
    weight = sparse(40, 128, torch.int8, hopper=False)
    planned = mma_packed.SPARSE_INT8.plan(torch.zeros(3, 128, dtype=torch.int8), weight, EPILOGUE, MMA)
    assert planned.launch.arguments.metadata == weight.meta.data_ptr()
    assert planned.launch.arguments.promote_slabs == 2


@pytest.mark.parametrize("k", [77, 200])
def test_rows_that_begin_anywhere_are_copied_to_where_they_fit(k: int) -> None:
    wide = torch.randn(5, k + 3).bfloat16()
    planned = mma_packed.W4A16.plan(wide[:, 3:], int4(16, k), EPILOGUE, MMA)
    arguments = planned.launch.arguments
    assert arguments.k % 16 == arguments.a_stride % 16 == arguments.a % 16 == 0
    (copied,) = (held for held in planned.held if held.data_ptr() == arguments.a)
    assert torch.equal(copied[:, :k], wide[:, 3:])
    assert not copied[:, k:].any()


def test_no_tokens_are_no_blocks() -> None:
    assert mma_packed.W4A16.plan(torch.zeros(0, 64).bfloat16(), int4(16, 64), EPILOGUE, MMA).launch.grid == 0
    hopper = sm90_packed.W4A16.plan(torch.zeros(0, 64).bfloat16(), int4(16, 64), EPILOGUE, HOPPER, multiprocessors=4)
    assert hopper.launch.grid == 0


def test_maps_of_four_bit_weights() -> None:
    a, weight = torch.zeros(70, 200, dtype=torch.bfloat16), int4(100, 200)
    planned = sm90_packed.W4A16.plan(a, weight, EPILOGUE, HOPPER, multiprocessors=132)
    maps = dict(planned.launch.maps)
    assert maps == {
        "a": TensorMap(a.data_ptr(), 70, 400, 400, 32, 128, 128),  # half of the tokens, for two blocks
        "weight": TensorMap(weight.packed.data_ptr(), 4 * 7 * 4, 128, 128, 32, 128, 0),  # of 128 channels
    }
    assert planned.launch.arguments.weight_rows == 7 * 4
    assert planned.launch.grid == 2 * 2  # two tiles of tokens, a cluster of 256 channels each
    assert planned.launch.cluster == 2


def test_maps_of_sparse_weights() -> None:
    a, weight = torch.zeros(70, 136, dtype=torch.bfloat16), sparse(300, 136, torch.bfloat16, hopper=True)
    planned = sm90_packed.SPARSE_FLOATS.plan(a, weight, EPILOGUE, HOPPER, multiprocessors=132)
    maps = dict(planned.launch.maps)
    # 68 kept values of two bytes, padded to whole 16; three steps of 64 columns, metadata of 512 channels.
    assert maps["weight"] == TensorMap(weight.values.data_ptr(), 300, 144, 144, 128, 64, 64)
    assert maps["metadata"] == TensorMap(weight.meta.data_ptr(), 3 * 8 * 8, 128, 128, 16, 128, 0)
    assert planned.launch.arguments.weight_rows == 8 * 8


@pytest.mark.parametrize(
    ("cluster", "multiprocessors", "grid"),
    [(1, 132, 132), (2, 132, 132), (4, 132, 128), (4, 78, 64), (4, 4, 4), (1, 500, 400)],
)
def test_blocks_that_stay(cluster: int, multiprocessors: int, grid: int) -> None:
    """All of them at one time; clusters of four only as many as GPCs of 16 multiprocessors hold."""
    tile = HOPPER._replace(cluster=cluster)
    planned = sm90_packed.W4A16.plan(
        torch.zeros(6400, 64).bfloat16(), int4(512, 64), EPILOGUE, tile, multiprocessors=multiprocessors
    )
    assert planned.launch.grid == grid
