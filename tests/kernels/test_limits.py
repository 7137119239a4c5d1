"""What an implementation does not accept it refuses in words, about what is nearest to the call."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quant.kernels.limits import Call, Implementation, Limits

CALL = Call("scaled_mm", "cpu", torch.int8, m=33, n=16, k=64)
ROWS = replace(CALL, op="quantize_rows", n=0, group=128)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(devices=("cuda",)), "runs on cuda, not on cpu"),
        (Limits(dtypes=(torch.float8_e4m3fn,)), "takes float8_e4m3fn, not int8"),
        (Limits(capabilities=((9, 0),)), "runs on sm_90, not on cpu"),
        (Limits(m_at_least=34), "needs M >= 34, got 33"),
        (Limits(n_multiple=32), "needs N a multiple of 32, got 16"),
        (Limits(k_multiple=128), "needs K a multiple of 128, got 64"),
        (Limits(m_at_most=32), "needs M <= 32, got 33"),
        (Limits(k_at_most=63), "needs K <= 63, got 64"),
        (Limits(block_scales=False), None),
        (Limits(group_sizes=(32, 64, 128)), None),
        (Limits(layouts=("mma_sparse24",)), None),
        (Limits(), None),
    ],
)
def test_a_limit_refuses_in_words(limits: Limits, says: str | None) -> None:
    assert limits.refusal(CALL) == says


@pytest.mark.parametrize(
    ("limits", "call", "says"),
    [
        (Limits(block_scales=False), replace(CALL, block_scales=True), "not one for each 128 x 128"),
        (Limits(groups=False), ROWS, "finds one scale a row, not one for each 128 of K"),
        (
            Limits(groups=False),
            replace(CALL, op="int4_mm", group=32),
            "takes one scale a row, not one for each 32 of K",
        ),
    ],
)
def test_scales_by_part_are_refused_in_words(limits: Limits, call: Call, says: str) -> None:
    assert (limits.refusal(call) or "").endswith(says)
    assert Limits().refusal(call) is None
    assert limits.refusal(replace(call, group=0, block_scales=False)) is None


@pytest.mark.parametrize(
    ("group", "fits"),
    [(0, True), (32, True), (64, True), (96, False), (128, True), (192, False), (256, True), (16, False), (5120, True)],
)
def test_groups_are_of_a_size_or_multiples_of_the_last(group: int, fits: bool) -> None:
    call = replace(CALL, op="int4_mm", group=group)
    says = None if fits else f"takes groups of 32, 64 or multiples of 128 columns, not of {group}"
    assert Limits(group_sizes=(32, 64, 128)).refusal(call) == says
    assert Limits().refusal(call) is None


def test_the_order_of_a_weight() -> None:
    limits = Limits(layouts=("wgmma_sparse24", "mma_sparse24"))
    call = replace(CALL, op="sparse_scaled_mm", layout="sparse24")
    says = "reads a weight in the order wgmma_sparse24 or mma_sparse24, not sparse24"
    assert limits.refusal(call) == says
    for layout in (*limits.layouts, ""):  # a weight that has no order yet is put into one that is read
        assert limits.refusal(replace(call, layout=layout)) is None
    assert Limits().refusal(call) is None


def test_of_several_limits_the_reason_is_of_those_about_the_call() -> None:
    limits = (Limits(devices=("cuda",)), Limits(devices=("cpu",), m_at_least=40))
    either = Implementation("either", "scaled_mm", limits, print)
    assert either.refusal(CALL) == "needs M >= 40, got 33"
    assert either.refusal(replace(CALL, m=40)) is None
    assert either.refusal(replace(CALL, device="xpu")) == "runs on cuda, not on xpu"


def test_a_machine_without_compiled_kernels_is_a_reason_where_no_other_is() -> None:
    call = replace(CALL, no_compiled="CuPy is not installed")
    ours = Implementation("ours", "scaled_mm", (Limits(n_multiple=16),), print, compiled=True)
    assert ours.refusal(call) == "CuPy is not installed"
    assert ours.refusal(replace(call, n=8)) == "needs N a multiple of 16, got 8"
    assert replace(ours, compiled=False).refusal(call) is None
