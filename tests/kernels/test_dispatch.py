"""The choice of an implementation is data: limits refuse in words, and each one agrees with its op's reference."""

from dataclasses import replace

import pytest
import torch

from quant.kernels import dispatch, reference
from quant.kernels.arguments import Epilogue
from quant.kernels.dispatch import IMPLEMENTATIONS, Call, Limits, choose, explain

CALL = Call("scaled_mm", "cpu", torch.int8, m=33, n=16, k=64)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(devices=("cuda",)), "runs on cuda, not on cpu"),
        (Limits(dtypes=(torch.float8_e4m3fn,)), "takes float8_e4m3fn, not int8"),
        (Limits(capabilities=((9, 0),)), "needs one of sm_90"),
        (Limits(m_at_least=34), "needs M >= 34, got 33"),
        (Limits(n_multiple=32), "needs N a multiple of 32, got 16"),
        (Limits(k_multiple=128), "needs K a multiple of 128, got 64"),
        (Limits(layout="tiles"), "reads weights in the order 'tiles', not 'row_major'"),
        (Limits(), None),
    ],
)
def test_a_limit_refuses_in_words(limits: Limits, says: str | None) -> None:
    assert limits.refusal(CALL) == says


def test_int8_runs_by_torch_and_fp8_by_the_reference_on_a_cpu() -> None:
    assert choose(CALL).name == "torch._int_mm"
    assert choose(replace(CALL, dtype=torch.float8_e4m3fn)).name == "reference"
    assert choose(replace(CALL, op="quantize_rows")).run is reference.quantize_rows


ON_GPU = replace(CALL, device="cuda", capability=(9, 0))


@pytest.mark.parametrize("call", [replace(ON_GPU, m=16), replace(ON_GPU, n=12), replace(ON_GPU, k=60)])
def test_the_limits_of_int_mm_on_cuda(call: Call) -> None:
    assert choose(ON_GPU).name == "torch._int_mm"
    (_, refusal), (last, accepted) = explain(call)
    assert refusal is not None
    assert "needs" in refusal
    assert (last.name, accepted) == ("reference", None)


def test_nothing_that_fits_is_an_error_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(each for each in IMPLEMENTATIONS if each.name == "torch._int_mm")
    monkeypatch.setattr(dispatch, "IMPLEMENTATIONS", few)
    with pytest.raises(ValueError, match="no implementation of scaled_mm runs") as caught:
        choose(replace(CALL, dtype=torch.float8_e4m3fn))
    assert "torch._int_mm takes int8, not float8_e4m3fn" in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 123, 77), (33, 64, 16), (0, 8, 8)])
def test_int_mm_equals_the_reference_bit_for_bit(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = (torch.randint(-127, 128, (rows, k), dtype=torch.int8) for rows in (m, n))
    epilogue = Epilogue(torch.rand(m, 1), torch.rand(n, 1), torch.randn(n), "gelu")
    assert torch.equal(IMPLEMENTATIONS[0].run(a, b, epilogue), reference.scaled_mm(a, b, epilogue))
