"""Arithmetic and bytes of single operations, by hand."""

from __future__ import annotations

import pytest

from quant.eval.speed.operations import attention, elementwise, matmul, numbers_of, quantize
from quant.scheme import SCHEMES, Scheme

W8A8, FP8_DYNAMIC, FP8 = (SCHEMES[name] for name in ("W8A8", "FP8_DYNAMIC", "FP8"))


@pytest.mark.parametrize(("scheme", "numbers"), [(None, "bf16"), (W8A8, "int8"), (FP8_DYNAMIC, "fp8"), (FP8, "fp8")])
def test_what_a_scheme_multiplies(scheme: Scheme | None, numbers: str) -> None:
    assert numbers_of(scheme) == numbers
    found = matmul("layer", 3, 5, 7, scheme)
    assert (found.kind, found.numbers, found.operations) == ("matmul", numbers, 2 * 3 * 5 * 7)
    assert found.sizes == {"M": 3, "N": 5, "K": 7}


@pytest.mark.parametrize(
    ("scheme", "nbytes"),
    [
        (None, 2 * (3 * 7 + 5 * 7 + 3 * 5 + 5)),
        (W8A8, 3 * 7 + 5 * 7 + 2 * (3 * 5 + 5) + 4 * (3 + 5)),
        (FP8_DYNAMIC, 3 * 7 + 5 * 7 + 2 * (3 * 5 + 5) + 4 * (3 + 5)),
        (FP8, 3 * 7 + 5 * 7 + 2 * (3 * 5 + 5) + 4 * (1 + 1)),
    ],
)
def test_bytes_of_a_matmul(scheme: Scheme | None, nbytes: int) -> None:
    assert matmul("layer", 3, 5, 7, scheme).nbytes == nbytes
    assert matmul("layer", 3, 5, 7, scheme, residual=True).nbytes == nbytes + 2 * 3 * 5
    assert matmul("layer", 3, 5, 7, scheme, codes=True).nbytes == nbytes - 3 * 5


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
