"""A wrong result is told from a right one, wherever it is wrong."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.gpu.correctness import difference, exact, exact_bare, fault, relative_error, sampled_rows
from benchmarks.gpu.inputs import DTYPES, Inputs
from benchmarks.gpu.shapes import Shape
from quant.kernels import reference
from quant.kernels.arguments import Epilogue, Prologue

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


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_codes_are_those_of_the_reference(form: str) -> None:
    codes = INPUTS.codes(form)
    for x, made, scale in ((INPUTS.x, codes.a, codes.a_scale), (INPUTS.weight, codes.b, codes.b_scale)):
        wanted, wanted_scale = reference.quantize_rows(x, DTYPES[form], None, Prologue())
        assert made.view(torch.uint8).equal(wanted.view(torch.uint8))
        assert scale.equal(wanted_scale)
    out = reference.scaled_mm(codes.a, codes.b, Epilogue(codes.a_scale, codes.b_scale, out_dtype=torch.float32))
    assert relative_error(out, exact_bare(codes, list(range(70)))) < 1e-6


def test_the_layer_has_bias_and_activation_only_as_used() -> None:
    rows = list(range(70))
    plain = INPUTS.x.double() @ INPUTS.weight.double().T
    assert exact(INPUTS, "bare", rows).equal(plain)
    used = torch.nn.functional.gelu(plain + INPUTS.bias.double(), approximate="tanh")
    assert exact(INPUTS, "used", rows).equal(used)


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
    assert fault(0.002, 0.002, "bf16", "used") is None
