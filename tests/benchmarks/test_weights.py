"""2:4 and 4-bit weights of the benchmark are what they are called, and take the bytes that are counted."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import weights
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.shapes import Shape
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear, unpack_linear
from quant.kernels import weight_orders
from quant.kernels.layouts import int4_fragments, mma_sparse24, nibbles, sparse24, wgmma_sparse24

N, K = 41, 512
INPUTS = Inputs(Shape("m", "l", 20, N, K), torch.device("cpu"))


def test_the_two_largest_of_four_are_kept() -> None:
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0, 0.0, 0.0, -1.0, 0.0]])
    assert weights.pruned(weight).tolist() == [[0.0, -4.0, 3.0, 0.0, 0.0, 0.0, -1.0, 0.0]]
    assert sparse24.is_24(INPUTS.pruned)
    assert (INPUTS.pruned != 0).sum() == N * K // 2
    kept = INPUTS.pruned != 0
    assert torch.equal(INPUTS.pruned[kept], INPUTS.weight[kept])


def test_four_bits_are_those_of_a_checkpoint() -> None:
    layer_format = LayerFormat(SCHEMES["W4A16"])
    stored = pack_linear(INPUTS.weight, layer_format)
    made = weights.four_bits(INPUTS.weight)
    assert torch.equal(made.packed, stored["weight_packed"])
    assert torch.equal(made.scale, stored["weight_scale"])
    assert made.scale.dtype == torch.bfloat16
    assert (made.zero, made.n, made.layout) == (None, N, nibbles.NAME)
    assert torch.equal(INPUTS.dequantized, unpack_linear(stored, layer_format).to(torch.bfloat16))
    off = (INPUTS.dequantized - INPUTS.weight).float().norm() / INPUTS.weight.float().norm()
    assert 0.05 < off < 0.2


@pytest.mark.parametrize("format_name", ["bf16", "int8", "fp8"])
@pytest.mark.parametrize("layout", [mma_sparse24.NAME, wgmma_sparse24.NAME])
def test_a_sparse_weight_in_the_order_of_a_kernel(format_name: str, layout: str) -> None:
    found = INPUTS.sparse(format_name, layout)
    assert found is INPUTS.sparse(format_name, layout)
    plain = weight_orders.plain(found, K)
    dense = sparse24.decompress(plain.values, plain.meta, K)
    wanted = INPUTS.pruned if format_name == "bf16" else INPUTS.codes(format_name, "2:4").b
    assert found.layout == layout
    assert torch.equal(dense.view(torch.uint8), wanted.view(torch.uint8))


@pytest.mark.parametrize("layout", weight_orders.INT4)
def test_a_4_bit_weight_in_every_order(layout: str) -> None:
    found = INPUTS.int4(layout)
    assert found is INPUTS.int4(layout)
    assert torch.equal(weights.dequantized(weight_orders.plain(found, K), K), INPUTS.dequantized)


def test_codes_of_one_input_are_made_once_for_all_its_weights() -> None:
    dense, sparse = INPUTS.codes("int8"), INPUTS.codes("int8", "2:4")
    assert dense.a is sparse.a
    assert not torch.equal(dense.b, sparse.b)
    assert INPUTS.codes("fp8", "2:4", one_scale=True).b_scale.shape == (1, 1)
    assert INPUTS.tensorwise.a is INPUTS.codes("fp8", one_scale=True).a


def test_bytes_that_are_counted_are_those_that_are_held() -> None:
    n, k = 64, 512  # nothing is padded
    inputs = Inputs(Shape("m", "l", 20, n, k), torch.device("cpu"))
    four = inputs.int4(int4_fragments.NAME_16)
    assert weights.bytes_of("bf16", "int4", n, k) == four.packed.nbytes + four.scale.nbytes
    for format_name in ("bf16", "int8", "fp8"):
        weight = inputs.sparse(format_name, mma_sparse24.NAME)
        scales = 0 if format_name == "bf16" else inputs.codes(format_name, "2:4").b_scale.nbytes
        assert weights.bytes_of(format_name, "2:4", n, k) == weight.values.nbytes + weight.meta.nbytes + scales
        dense = inputs.weight.nbytes if format_name == "bf16" else inputs.codes(format_name).b.nbytes + scales
        assert weights.bytes_of(format_name, "dense", n, k) == dense
    assert weights.four_bits_of_bf16(n, k) == (four.packed.nbytes + four.scale.nbytes) / inputs.weight.nbytes
    assert weights.four_bits_of_bf16(n - 15, k) > weights.four_bits_of_bf16(n, k)  # rows are padded
