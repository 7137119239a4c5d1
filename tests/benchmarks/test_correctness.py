"""A wrong result is told from a right one, wherever it is wrong."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.gpu.contestants import FORMATS
from benchmarks.gpu.correctness import difference, exact, exact_bare, exact_of, fault, relative_error, sampled_rows
from benchmarks.gpu.inputs import DTYPES, Inputs
from benchmarks.gpu.shapes import Shape
from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference

INPUTS = Inputs(Shape("m", "ffn up", 70, 24, 96, "gelu_tanh"), torch.device("cpu"))


@pytest.mark.parametrize("m", [1, 255, 256, 257, 1000, 119056])
def test_rows_are_sampled_at_both_ends_and_between(m: int) -> None:
    rows = sampled_rows(m)
    assert len(rows) == len(set(rows)) == min(m, 256)
    assert rows == sorted(rows)
    assert (rows[0], rows[-1]) == (0, m - 1)
    if m >= 1000:
        assert rows[:64] == list(range(64))
        assert max(b - a for a, b in pairwise(rows)) < 2 * m / 128


@pytest.mark.parametrize("format_name", ["int8", "fp8"])
def test_codes_are_those_of_the_reference(format_name: str) -> None:
    codes = INPUTS.codes(format_name)
    for x, made, scale in ((INPUTS.x, codes.a, codes.a_scale), (INPUTS.weight, codes.b, codes.b_scale)):
        wanted, wanted_scale = quantize_rows_reference(x, DTYPES[format_name], None, Prologue())
        assert made.view(torch.uint8).equal(wanted.view(torch.uint8))
        assert scale.equal(wanted_scale)
    out = scaled_mm_reference(codes.a, codes.b, Epilogue(codes.a_scale, codes.b_scale, out_dtype=torch.float32))
    assert relative_error(out, exact_bare(codes, list(range(70)))) < 1e-6


def test_the_layer_has_bias_and_activation_only_as_used() -> None:
    rows = list(range(70))
    plain = INPUTS.x.double() @ INPUTS.weight.double().T
    assert exact(INPUTS, "bare", rows).equal(plain)
    used = torch.nn.functional.gelu(plain + INPUTS.bias.double(), approximate="tanh")
    assert exact(INPUTS, "used", rows).equal(used)


#: With groups of 128.
WIDE = Inputs(Shape("m", "ffn up", 70, 24, 256, "gelu_tanh"), torch.device("cpu"))


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_is_held_to_its_own_weight_and_codes(format_name: str) -> None:
    rows = [0, 3, 69]
    _, x, weight = FORMATS[format_name]
    bf16 = {"dense": WIDE.weight, "2:4": WIDE.pruned, "int4": WIDE.dequantized}[weight]
    layer = torch.nn.functional.linear(WIDE.x[rows].double(), bf16.double(), WIDE.bias.double())
    used = torch.nn.functional.gelu(layer, approximate="tanh")
    assert torch.allclose(exact_of(WIDE, format_name, "used", rows), used, rtol=1e-12, atol=0)
    a, b = WIDE.x.double(), bf16.double()
    if x != "bf16":
        codes = WIDE.codes(x, "2:4" if weight == "2:4" else "dense")
        a = codes.a.double() * codes.a_scale
        b = b if weight == "int4" else codes.b.double() * codes.b_scale
    found = exact_of(WIDE, format_name, "bare", rows)
    assert torch.allclose(found, a[rows] @ b.T, rtol=1e-12, atol=1e-12)
    # Far from every other weight's.
    others = [each for each in FORMATS if FORMATS[each].weight != weight]
    assert all(relative_error(exact_of(WIDE, each, "bare", rows), found) > 0.05 for each in others)


def test_one_scale_for_everything_has_codes_of_its_own() -> None:
    rows = [1, 2]
    one = exact_of(WIDE, "2:4 int8", "bare", rows, one_scale=True)
    assert torch.equal(one, exact_bare(WIDE.codes("int8", "2:4", one_scale=True), rows))
    assert relative_error(one, exact_of(WIDE, "2:4 int8", "bare", rows)) > 1e-3


def test_an_error_over_all_rows() -> None:
    out = torch.ones(9000, 2)
    other = out.clone()
    other[8999, 1] = 3
    assert difference(out, out) == 0
    assert difference(out, other) == pytest.approx(2 / (17999 + 9) ** 0.5)


def test_faults_in_words() -> None:
    nan = float("nan")
    assert fault(0.002, 0.02, "int8", "bare") is None
    assert fault(0.02, 0.02, "int8", "used") is None
    assert "on sampled rows" in str(fault(0.02, 0.02, "int8", "bare"))
    assert "on sampled rows" in str(fault(nan, 0.02, "int8", "bare"))
    assert "over all rows" in str(fault(0.002, nan, "fp8", "bare"))
    assert "over all rows" in str(fault(0.002, 0.5, "fp8", "bare"))
    assert "nothing was quantized" in str(fault(0.002, 0.002, "fp8", "used"))
    assert "nothing was quantized" in str(fault(0.002, 0.002, "w4a8", "used"))
    assert "nothing was quantized" in str(fault(0.002, 0.002, "2:4 fp8", "used"))
    for format_name in ("bf16", "2:4 bf16", "w4a16"):
        assert fault(0.002, 0.002, format_name, "used") is None
        assert "on sampled rows" in str(fault(0.02, 0.002, format_name, "used"))
