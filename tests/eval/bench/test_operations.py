"""Arithmetic and bytes of single operations, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.eval.bench.operations import attention, codes_of, elementwise, matmul, numbers_of, quantize
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import pack_linear
from tests.layers.quantized import quantized

BY_ROW = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
LAYER_FORMATS = {name: LayerFormat(scheme) for name, scheme in SCHEMES.items() if scheme.weights is not None}
LAYER_FORMATS["by row"] = LayerFormat(BY_ROW)
SPARSE = {name: LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8", "FP8_DYNAMIC")}
W8A8, FP8, BLOCK = LAYER_FORMATS["W8A8"], LAYER_FORMATS["FP8"], LAYER_FORMATS["FP8_BLOCK"]


@pytest.mark.parametrize(
    ("layer_format", "numbers", "codes"),
    [
        (None, "bf16", None),
        (W8A8, "int8", "int8"),
        (LAYER_FORMATS["FP8_DYNAMIC"], "fp8", "fp8"),
        (FP8, "fp8", "fp8"),
        (BLOCK, "fp8", "fp8"),
        (LAYER_FORMATS["W4A16"], "int4 x bf16", None),
        (LAYER_FORMATS["W4A16_ASYM"], "int4 x bf16", None),
        (LAYER_FORMATS["W8A16"], "int8 x bf16", None),
        (LAYER_FORMATS["W4A8"], "int4 x int8", "int8"),
        (LAYER_FORMATS["W4AFP8"], "int4 x fp8", "fp8"),
        (SPARSE["UNQUANTIZED"], "sparse bf16", None),
        (SPARSE["W8A8"], "sparse int8", "int8"),
        (SPARSE["FP8_DYNAMIC"], "sparse fp8", "fp8"),
    ],
)
def test_what_a_layer_format_multiplies(layer_format: LayerFormat | None, numbers: str, codes: str | None) -> None:
    assert (numbers_of(layer_format), codes_of(layer_format)) == (numbers, codes)
    found = matmul("layer", 3, 5, 384, layer_format)
    # 2:4 or not: multiplications by zeros are counted, as published rates count them.
    assert (found.kind, found.numbers, found.operations) == ("matmul", numbers, 2 * 3 * 5 * 384)
    assert found.sizes == {"M": 3, "N": 5, "K": 384}


#: Of x [3, 384] by a weight [5, 384]: the input, then the weight, then scales. The output and the bias are added below.
BF16_INPUT, CODES, SCALE_A_ROW = 2 * 3 * 384, 3 * 384, 4 * 3
HALF, META = 5 * 192, 5 * 48


@pytest.mark.parametrize(
    ("layer_format", "nbytes"),
    [
        (None, BF16_INPUT + 2 * 5 * 384),
        (W8A8, CODES + 5 * 384 + 4 * 5 + SCALE_A_ROW),
        (LAYER_FORMATS["FP8_DYNAMIC"], CODES + 5 * 384 + 4 * 5 + SCALE_A_ROW),
        (FP8, CODES + 5 * 384 + 4 + 4),
        (BLOCK, CODES + 5 * 384 + 4 * 1 * 3 + 3 * SCALE_A_ROW),
        (LAYER_FORMATS["W8A16"], BF16_INPUT + 5 * 384 + 4 * 5 * 3),
        (LAYER_FORMATS["W4A16"], BF16_INPUT + 5 * 192 + 2 * 5 * 3),
        (LAYER_FORMATS["W4A16_ASYM"], BF16_INPUT + 5 * 192 + 2 * 5 * 3 + 5 * 3),
        (LAYER_FORMATS["by row"], BF16_INPUT + 5 * 192 + 2 * 5 + 5),
        (LAYER_FORMATS["W4A8"], CODES + 5 * 192 + 2 * 5 * 3 + SCALE_A_ROW),
        (LAYER_FORMATS["W4AFP8"], CODES + 5 * 192 + 2 * 5 * 3 + SCALE_A_ROW),
        (SPARSE["UNQUANTIZED"], BF16_INPUT + 2 * HALF + META),
        (SPARSE["W8A8"], CODES + HALF + META + 4 * 5 + SCALE_A_ROW),
        (SPARSE["FP8_DYNAMIC"], CODES + HALF + META + 4 * 5 + SCALE_A_ROW),
        (SPARSE["FP8"], CODES + HALF + META + 4 + 4),
    ],
)
def test_bytes_of_a_matmul(layer_format: LayerFormat | None, nbytes: int) -> None:
    nbytes += 2 * (3 * 5 + 5)
    assert matmul("layer", 3, 5, 384, layer_format).nbytes == nbytes
    assert matmul("layer", 3, 5, 384, layer_format, residual=True).nbytes == nbytes + 2 * 3 * 5
    assert matmul("layer", 3, 5, 384, layer_format, codes=True).nbytes == nbytes - 3 * 5


def test_rows_that_fill_no_whole_word_and_no_whole_byte() -> None:
    """Eight nibbles are an int32, and two groups of four columns a byte of metadata."""
    rest = 2 * (3 * 13 + 3 * 5 + 5)
    assert matmul("layer", 3, 5, 13, LAYER_FORMATS["by row"]).nbytes == rest + 5 * 2 * 4 + 2 * 5 + 5
    rest = 2 * (3 * 12 + 3 * 5 + 5)
    assert matmul("layer", 3, 5, 12, SPARSE["UNQUANTIZED"]).nbytes == rest + 2 * 5 * 6 + 5 * 2


@pytest.mark.parametrize(
    "layer_format", [*LAYER_FORMATS.values(), *SPARSE.values()], ids=lambda layer_format: layer_format.label
)
def test_a_weight_is_as_large_as_the_tensors_that_a_layer_keeps(layer_format: LayerFormat) -> None:
    linear = nn.Linear(384, 64, bias=False, dtype=torch.bfloat16)
    weight = linear.weight.detach()
    tensors = pack_linear(
        weight * magnitude_mask(weight) if layer_format.sparse else weight,
        layer_format,
        input_scale=torch.tensor([0.1]) if layer_format.scheme.has_static_input else None,
    )
    layer = quantized(linear, layer_format, tensors)
    kept = sum(buffer.nbytes for name, buffer in layer.held().items() if name != "input_scale")
    inputs = 2 * 384 if codes_of(layer_format) is None else 384 + 4 * (3 if layer_format is BLOCK else 1)
    assert matmul("layer", 1, 64, 384, layer_format).nbytes == kept + inputs + 2 * (64 + 64)


def test_attention() -> None:
    found = attention("attention", 2, 10, 6, 3, 8)
    # For each of 2 samples and 3 heads: [10, 8] by [8, 6], and [10, 6] by [6, 8].
    assert found.operations == 2 * 3 * (2 * 10 * 6 * 8 + 2 * 10 * 6 * 8)
    # q and the output are [10, 24], k and v [6, 24].
    assert found.nbytes == 2 * 2 * (2 * 10 * 24 + 2 * 6 * 24)
    assert (found.kind, found.numbers) == ("attention", "bf16")


def test_element_wise_work_is_traffic() -> None:
    found = elementwise("norm", 10, 24, 8)
    assert (found.kind, found.operations, found.nbytes) == ("elementwise", 0, 10 * 2 * (24 + 8))


def test_quantization_writes_codes_and_a_scale_only_where_it_finds_one() -> None:
    assert quantize("codes", 10, 24, W8A8).nbytes == 10 * (2 * 24 + 24 + 4)
    assert quantize("codes", 10, 24, FP8).nbytes == 10 * (2 * 24 + 24)
    assert quantize("codes", 10, 24, SPARSE["W8A8"]).nbytes == 10 * (2 * 24 + 24 + 4)
    assert quantize("codes", 10, 300, BLOCK).nbytes == 10 * (2 * 300 + 300 + 3 * 4)
