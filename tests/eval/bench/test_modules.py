"""Blocks with random weights run, at the dtypes that they have in a pipeline."""

from __future__ import annotations

import pytest
import torch

from quant.eval.bench.modules import build, first_tensor
from quant.eval.bench.sizes import models
from tests.eval.bench.small import small

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", models())
def test_a_block_runs_on_its_inputs(name: str) -> None:
    built = build(small(name), CPU, batch=2)
    with torch.no_grad():
        out = first_tensor(built.block()(**built.arguments))
    assert (out.shape, out.dtype) == ((2, 24, 64), torch.bfloat16)
    assert out.isfinite().all()
    assert not torch.equal(out, built.arguments["hidden_states"])


@pytest.mark.parametrize("name", models())
def test_linears_are_in_bf16_and_nothing_asks_for_gradients(name: str) -> None:
    built = build(small(name), CPU)
    for parameter_name, parameter in built.block().named_parameters():
        kept = name.startswith("wan") and {"scale_shift_table", "norm2"} & set(parameter_name.split("."))
        assert parameter.dtype == (torch.float32 if kept else torch.bfloat16), parameter_name
        assert not parameter.requires_grad


def test_any_number_of_tokens_will_do() -> None:
    built = build(small("wan-14b")._replace(video_tokens=13, text_tokens=5), CPU)
    with torch.no_grad():
        assert built.block()(**built.arguments).shape == (1, 13, 64)


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (build(small("ltx-13b"), CPU, seed=seed) for seed in (1, 1, 2))
    for built, same in ((again, True), (other, False)):
        assert torch.equal(first.arguments["hidden_states"], built.arguments["hidden_states"]) == same
        weights = [each.block().get_submodule("ff.net.2").weight for each in (first, built)]
        assert torch.equal(*weights) == same  # type: ignore[arg-type]
