"""A weight is wanted in the order of the best implementation that can run, and of no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from quant.kernels import dispatch, prepacking
from quant.kernels.limits import Implementation, Limits
from quant.kernels.prepacking import MANY_ROWS, wanted
from quant.kernels.runtime import availability
from quant.kernels.weight_orders import LAYOUTS

FP8 = torch.float8_e4m3fn
HOPPER = Limits(devices=("cuda",), dtypes=(torch.float16,), capabilities=((9, 0),), layouts=("of hopper", "another"))
AMPERE = Limits(devices=("cuda",), dtypes=(torch.float16, FP8), layouts=("of ampere",), group_sizes=(32, 128))


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two kernels for an op, one with an order for each dtype, ahead of what there is."""
    rest = tuple(each for each in dispatch.implementations() if not each.compiled)
    other = Limits(devices=("cuda",), dtypes=(torch.int8,), layouts=("of codes",), m_at_most=MANY_ROWS - 1)
    found = (
        Implementation("hopper", "int4_mm", (HOPPER,), print, compiled=True),
        Implementation("ampere", "int4_mm", (other, AMPERE), print, compiled=True),
        *rest,
    )
    monkeypatch.setattr(dispatch, "implementations", lambda: found)
    monkeypatch.setattr(availability, "reason", lambda device: None)
    return monkeypatch


@pytest.fixture
def on(kernels: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    return lambda *capability: kernels.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.parametrize("op", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.int8, FP8, torch.bfloat16, torch.float32])
def test_on_a_cpu_the_plain_order(op: str, dtype: torch.dtype) -> None:
    for group in (0, 128):
        assert wanted(op, dtype, 64, 256, "cpu", group) == LAYOUTS[op][0]
        assert wanted(op, dtype, 64, 256, torch.device("cpu"), group) == LAYOUTS[op][0]


def test_the_best_kernel_of_the_device_and_dtype(on: Callable[[int, int], None]) -> None:
    on(9, 0)
    assert wanted("int4_mm", torch.float16, 64, 256, "cuda") == "of hopper"
    assert wanted("int4_mm", FP8, 64, 256, torch.device("cuda", 1)) == "of ampere"
    on(8, 0)
    assert wanted("int4_mm", torch.float16, 64, 256, "cuda", 128) == "of ampere"
    assert wanted("sparse_scaled_mm", torch.float16, 64, 256, "cuda") == "sparse24"


def test_a_kernel_that_refuses_is_not_packed_for(on: Callable[[int, int], None]) -> None:
    on(8, 0)
    assert wanted("int4_mm", FP8, 64, 256, "cuda", 48) == "nibbles"
    assert wanted("int4_mm", torch.float32, 64, 256, "cuda") == "nibbles"
    assert wanted("int4_mm", torch.int8, 64, 256, "cuda") == "nibbles"  # not with many rows
    assert wanted("int4_mm", FP8, 64, 256, "cpu") == "nibbles"


def test_where_no_kernel_can_be_compiled_the_plain_order(
    on: Callable[[int, int], None], kernels: pytest.MonkeyPatch
) -> None:
    on(9, 0)
    kernels.setattr(availability, "reason", lambda device: "CuPy cannot be imported")
    assert wanted("int4_mm", torch.float16, 64, 256, "cuda") == "nibbles"


def test_packing_goes_with_it() -> None:
    assert prepacking.packed.__module__ == prepacking.plain.__module__ == "quant.kernels.weight_orders"
