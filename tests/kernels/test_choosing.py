"""On a GPU, what does not run by a compiled kernel says so once; `only` makes it an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from quant.kernels import choosing, ops, weight_orders
from quant.kernels.arguments import Sparse24Weight
from quant.kernels.dispatch import Call, Implementation, implementations, only
from quant.kernels.layouts.sparse24 import compress

INT8, FP8 = torch.int8, torch.float8_e4m3fn
NO_CUPY = "CuPy cannot be imported"


def implementations_of(op: str) -> tuple[Implementation, ...]:
    return tuple(each for each in implementations() if each.op == op)


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    choosing._warn.cache_clear()
    yield
    choosing._warn.cache_clear()


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Calls are about an A100 on which no compiled kernel runs; the tensors stay on the CPU."""

    def on_device(call: Call, device: torch.device) -> Call:
        return replace(call, device="cuda", capability=(8, 0), no_compiled=NO_CUPY)

    monkeypatch.setattr(choosing, "on_device", on_device)
    return monkeypatch


def quantize(k: int = 32, dtype: torch.dtype = INT8) -> torch.Tensor:
    return ops.quantize_rows(torch.randn(20, k), dtype)[0]


def multiply(m: int = 20, k: int = 32, dtype: torch.dtype = INT8) -> torch.Tensor:
    a, b = (torch.ones(rows, k).to(dtype) for rows in (m, 16))
    return ops.scaled_mm(a, torch.ones(1, 1), b, torch.ones(1), out_dtype=torch.float32)


def said_by(*calls: Callable[[], torch.Tensor]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [str(each.message) for each in caught]


def test_each_reason_is_said_once(pretend: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], torch.Tensor]] = [quantize, multiply, partial(multiply, dtype=FP8)] * 3
    assert said_by(*calls) == [
        f"quantize_rows runs by reference, not by a kernel of quant: quantize_rows {NO_CUPY}",
        "scaled_mm runs by torch._int_mm, not by a kernel of quant: "
        f"sm90_int8_gemm runs on sm_90, not on sm_80; sm80_int8_gemm {NO_CUPY}",
        "scaled_mm runs by reference, not by a kernel of quant: "
        "sm90_fp8_gemm runs on sm_90, not on sm_80; sm89_fp8_gemm runs on sm_89, not on sm_80",
    ]


def test_another_implementation_or_reason_is_said_again(pretend: pytest.MonkeyPatch) -> None:
    said = said_by(multiply, partial(multiply, m=3), quantize, partial(quantize, k=25_601))
    assert [each.split(",")[0] for each in said] == [
        "scaled_mm runs by torch._int_mm",
        "scaled_mm runs by reference",
        "quantize_rows runs by reference",
        "quantize_rows runs by reference",
    ]
    assert said[-1].endswith("quantize_rows needs K <= 25600, got 25601")


def by_group() -> torch.Tensor:
    return ops.quantize_rows(torch.randn(20, 300), INT8, group=128)[0]


def with_nibbles(dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    scale = None if dtype == torch.bfloat16 else torch.ones(1)
    packed, by_group = torch.zeros(16, 8, dtype=torch.int32), torch.ones(16, 2)
    return ops.int4_mm(torch.ones(20, 64).to(dtype), packed, by_group, a_scale=scale, out_dtype=torch.float32)


def with_bytes() -> torch.Tensor:
    return ops.int8_mm(torch.ones(20, 64), torch.zeros(16, 64, dtype=INT8), torch.ones(16, 1), out_dtype=torch.float32)


def sparse() -> torch.Tensor:
    values, meta = compress(torch.zeros(16, 64))
    return ops.sparse_scaled_mm(torch.ones(20, 64), None, values, meta, None, out_dtype=torch.float32)


def test_an_op_without_a_kernel_says_so_once(pretend: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], torch.Tensor]] = [by_group, with_bytes, sparse]
    none = "runs by reference, not by a kernel of quant: it has none for this op and dtype"
    assert said_by(*calls * 2) == [
        "quantize_rows runs by reference, not by a kernel of quant: "
        "quantize_rows finds one scale a row, not one for each 128 of K",
        *(f"{op} {none}" for op in ("int8_mm", "sparse_scaled_mm")),
    ]


def test_a_weight_in_another_order_than_the_kernel_reads_says_so_once(pretend: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], torch.Tensor]] = [with_nibbles, partial(with_nibbles, INT8)]
    assert said_by(*calls * 2) == [
        "int4_mm runs by reference, not by a kernel of quant: sm90_w4a16_gemm runs on sm_90, not on sm_80; "
        "sm80_w4a16_gemm reads a weight in the order int4_fragments_16, not nibbles",
        "int4_mm runs by reference, not by a kernel of quant: sm90_w4a8_gemm runs on sm_90, not on sm_80; "
        "sm80_w4a8_gemm reads a weight in the order int4_fragments_8, not nibbles",
    ]


def test_a_group_of_the_weight_is_part_of_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Call] = []
    chosen = choosing.chosen

    def noted(call: Call, implementations: tuple[Implementation, ...]) -> Implementation:
        asked.append(call)
        return chosen(call, implementations)

    monkeypatch.setattr(choosing, "chosen", noted)
    with_nibbles(), with_bytes(), sparse(), by_group(), quantize()
    assert [(call.op, call.m, call.n, call.k, call.group) for call in asked] == [
        ("int4_mm", 20, 16, 64, 32),
        ("int8_mm", 20, 16, 64, 0),
        ("sparse_scaled_mm", 20, 16, 64, 0),
        ("quantize_rows", 20, 0, 300, 128),
        ("quantize_rows", 20, 0, 32, 0),
    ]


def test_the_order_of_a_weight_and_its_scales_are_part_of_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Call] = []
    chosen = choosing.chosen

    def noted(call: Call, implementations: tuple[Implementation, ...]) -> Implementation:
        asked.append(call)
        return chosen(call, implementations)

    monkeypatch.setattr(choosing, "chosen", noted)
    words, scale = torch.zeros(1, 1, 32, 4, dtype=torch.int32), torch.ones(2, 16, dtype=torch.float16)
    lanes: dict[str, Any] = {"layout": "int4_fragments_16", "n": 9}
    for a in (torch.ones(3, 64), torch.ones(3, 64).half()):
        assert ops.int4_mm(a, words, scale, **lanes, out_dtype=torch.float32).shape == (3, 9)
    ops.int4_mm(torch.ones(3, 64).to(FP8), words, scale, a_scale=torch.ones(1), **lanes, out_dtype=torch.float32)
    with_nibbles(), sparse()
    plain = Sparse24Weight(*compress(torch.zeros(20, 64).half()), 20)
    b = weight_orders.packed(plain, "mma_sparse24", 64)
    order: dict[str, Any] = {"layout": b.layout, "n": b.n}
    ops.sparse_scaled_mm(torch.ones(3, 64).half(), None, b.values, b.meta, None, **order, out_dtype=torch.float32)
    assert [(call.n, call.group, call.layout) for call in asked] == [
        (9, 32, "int4_fragments_16"),
        (9, 32, "int4_fragments_16"),
        (9, 32, "int4_fragments_16"),
        (16, 32, "nibbles"),
        (16, 0, "sparse24"),
        (20, 0, "mma_sparse24"),
    ]


def test_scales_of_one_are_made_only_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    ones = torch.ones

    def counted(*sizes: int, **options: object) -> torch.Tensor:
        made.append(1)
        return ones(*sizes, **options)  # type: ignore[call-overload, no-any-return]

    codes, weight, one = ones(20, 32, dtype=INT8), ones(16, 32, dtype=INT8), ones(1)
    monkeypatch.setattr(torch, "ones", counted)
    ops.scaled_mm(codes, one, weight, one, out_dtype=torch.float32)
    assert not made


def test_on_a_cpu_nothing_is_said() -> None:
    assert said_by(quantize, multiply, partial(multiply, dtype=FP8)) == []


#: Capability, codes, and the kernel that is best there.
KERNELS = [
    ((8, 0), INT8, "sm80_int8_gemm"),
    ((8, 9), FP8, "sm89_fp8_gemm"),
    ((9, 0), INT8, "sm90_int8_gemm"),
    ((9, 0), FP8, "sm90_fp8_gemm"),
]


@pytest.mark.parametrize(("capability", "dtype", "name"), KERNELS)
def test_a_compiled_kernel_says_nothing(capability: tuple[int, int], dtype: torch.dtype, name: str) -> None:
    call = Call("scaled_mm", "cuda", dtype, 20, 16, 32, capability=capability)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choosing.chosen(call, implementations_of(call.op)).name == name
        rows = replace(call, op="quantize_rows")
        assert choosing.chosen(rows, implementations_of(rows.op)).name == "quantize_rows"


@pytest.mark.parametrize(("capability", "dtype", "name"), KERNELS)
def test_asking_for_another_than_the_best_says_nothing(
    capability: tuple[int, int], dtype: torch.dtype, name: str
) -> None:
    """Kernels for other GPUs are refused here too, but they are not the reason."""
    call = Call("scaled_mm", "cuda", dtype, 20, 16, 32, capability=capability)
    with warnings.catch_warnings(), only("reference", "torch._int_mm"):
        warnings.simplefilter("error")
        assert choosing.chosen(call, implementations_of(call.op)).name == (
            "torch._int_mm" if dtype == INT8 else "reference"
        )


def test_asking_for_the_kernel_makes_it_an_error(pretend: pytest.MonkeyPatch) -> None:
    with only("sm80_int8_gemm", "quantize_rows"):
        with pytest.raises(ValueError, match=f"quantize_rows {NO_CUPY}"):
            quantize()
        with pytest.raises(ValueError, match=f"sm80_int8_gemm {NO_CUPY}"):
            multiply()


def test_scales_by_block_are_part_of_the_choice(pretend: pytest.MonkeyPatch) -> None:
    a, b = (torch.ones(rows, 256, dtype=INT8) for rows in (20, 16))
    with only("torch._int_mm"), pytest.raises(ValueError, match="not one for each 128 x 128"):
        ops.scaled_mm(a, torch.ones(1, 1), b, torch.ones(1, 2), out_dtype=torch.float32)
