"""The roofline: the longer of arithmetic and traffic, by the rate of what is multiplied."""

from __future__ import annotations

import pytest

from quant.errors import QuantError
from quant.eval.bench.gpus import Gpu, Rate
from quant.eval.bench.operations import Operation, attention, elementwise, matmul
from quant.eval.bench.roofline import by_kind, predict_operation, predict_operations, total
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES


def rate(achieved: float) -> Rate:
    return Rate(2 * achieved, achieved, "made up")


GPU = Gpu(
    "made-up",
    "made up",
    (),
    "sm_90a",
    "none",
    {
        "matmul bf16": rate(100.0),
        "matmul int8": rate(250.0),
        "matmul sparse int8": rate(500.0),
        "attention bf16": rate(50.0),
        "memory": rate(10.0),
    },
)


def operation(kind: str, numbers: str, operations: int, nbytes: int) -> Operation:
    return Operation("one", kind, numbers, {}, operations, nbytes)


@pytest.mark.parametrize(
    ("given", "seconds", "bound"),
    [
        (operation("matmul", "bf16", 1000, 20), 10.0, "arithmetic"),
        (operation("matmul", "bf16", 1000, 200), 20.0, "memory"),
        (operation("matmul", "int8", 1000, 20), 4.0, "arithmetic"),
        (operation("matmul", "sparse int8", 1000, 10), 2.0, "arithmetic"),
        (operation("attention", "bf16", 1000, 20), 20.0, "arithmetic"),
        (operation("elementwise", "bf16", 0, 20), 2.0, "memory"),
    ],
)
def test_the_longer_of_both(given: Operation, seconds: float, bound: str) -> None:
    found = predict_operation(given, GPU)
    assert (found.operation, found.bound) == (given, bound)
    assert found.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "layer_format",
    [LayerFormat(SCHEMES["FP8"]), LayerFormat(SCHEMES["W4AFP8"]), LayerFormat(SCHEMES["FP8_DYNAMIC"], sparse=True)],
    ids=lambda layer_format: layer_format.label,
)
def test_numbers_that_a_gpu_cannot_multiply(layer_format: LayerFormat) -> None:
    with pytest.raises(QuantError, match=r"made-up has no FP8 tensor cores, so no roofline: there attn1.to_q runs in"):
        predict_operation(matmul("attn1.to_q", 3, 5, 128, layer_format), GPU)


def test_a_block_is_the_sum_of_its_operations() -> None:
    found = predict_operations(
        [matmul("a", 64, 64, 64, None), attention("b", 1, 8, 8, 1, 8), elementwise("c", 5, 6, 7)], GPU
    )
    kinds = by_kind(found)
    assert list(kinds) == ["matmul", "attention", "elementwise"]
    assert [kinds[each.operation.kind] for each in found] == [each.seconds for each in found]
    assert total(found) == pytest.approx(sum(kinds.values()))
