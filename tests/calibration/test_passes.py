"""Passes over the prompts: each holds what fits, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quant.algorithms.base import Needs
from quant.calibration.passes import InputGroup, passes

HESSIAN = Needs(hessian=True)


def _inputs(needs: list[Needs], widths: list[int]) -> list[InputGroup]:
    return [InputGroup(str(i), i, (), *each) for i, each in enumerate(zip(needs, widths, strict=True))]


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=12), st.floats(0.001, 1.0))
def test_a_pass_holds_what_fits_or_one_input(widths: list[int], budget: float) -> None:
    inputs = _inputs([HESSIAN] * len(widths), widths)
    parts = passes(inputs, budget)
    assert [each for part in parts for each in part] == inputs
    for part, after in zip(parts, [*parts[1:], []], strict=True):
        used = sum(each.width**2 * 16 / 1e9 for each in part)
        assert len(part) == 1 or used <= budget * (1 + 1e-9)
        assert not after or used + after[0].width ** 2 * 16 / 1e9 > budget * (1 - 1e-9)


def test_inputs_without_a_hessian_need_no_pass_of_their_own() -> None:
    inputs = _inputs([HESSIAN, Needs(amax=True), HESSIAN, Needs()], [1000] * 4)
    assert passes(inputs, 0.016) == [inputs[:2], inputs[2:]]
    inputs = _inputs([Needs(), Needs(amax=True)], [10**6] * 2)
    assert passes(inputs, 0.001) == [inputs]
