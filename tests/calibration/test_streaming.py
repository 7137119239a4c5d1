"""Weights that are there while they are needed: which ones, where from, and that nothing is left of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from quant.calibration.blocks import blocks_of
from quant.calibration.streaming import StreamedWeights
from quant.errors import ModelError
from quant.pipelines.runnable import runnable
from quant.pipelines.weights import of_model
from tests.tiny_calls import tiny_calls
from tests.tiny_models import ModelMaker

WAN, CPU = "WanTransformer3DModel", torch.device("cpu")


def loaded(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.is_meta}


def test_a_unit_is_loaded_when_it_is_called_and_dropped_when_it_may_go(make_model: ModelMaker) -> None:
    whole = make_model(WAN, device="cpu")
    model = runnable(make_model(WAN), torch.float32)
    weights = StreamedWeights(model, blocks_of(model), of_model(whole), CPU, CPU)
    assert not loaded(model)
    with weights, torch.no_grad():
        assert loaded(model) == {"scale_shift_table"}  # of the whole model, which has blocks in it
        weights.load("blocks.1.attn1.to_q")
        assert {name.split(".")[0:2][-1] for name in loaded(model)} == {"scale_shift_table", "1"}
        assert weights.held == sum(parameter.nbytes for parameter in whole.blocks[1].parameters())  # type: ignore[index,union-attr]
        assert torch.equal(model.blocks[1].attn1.to_q.weight, whole.blocks[1].attn1.to_q.weight)  # type: ignore[index,union-attr]
        weights.free()
        assert loaded(model) == {"scale_shift_table"} and weights.held == 0
        for call in tiny_calls(WAN, 2):
            args, kwargs = call.load()
            assert torch.equal(model(*args, **kwargs)[0], whole(*args, **kwargs)[0])
        assert len(loaded(model)) == len(dict(whole.named_parameters()))
    assert not loaded(model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_dtypes_are_those_of_the_plan_before_anything_is_loaded(make_model: ModelMaker) -> None:
    whole, model = make_model(WAN, device="cpu").bfloat16(), runnable(make_model(WAN), torch.bfloat16)
    StreamedWeights(model, blocks_of(model), of_model(whole), CPU, CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_a_tensor_that_is_not_finite_is_named(make_model: ModelMaker) -> None:
    model, tensors = runnable(make_model(WAN), torch.float32), of_model(make_model(WAN, device="cpu"))

    def check(rows: torch.Tensor, start: int) -> None:
        raise ModelError("blocks.1 is damaged")

    tensors["blocks.1.ffn.net.2.weight"] = replace(tensors["blocks.1.ffn.net.2.weight"], check=check)
    with StreamedWeights(model, blocks_of(model), tensors, CPU, CPU) as weights:
        weights.load("blocks.0.ffn.net.2")
        with pytest.raises(ModelError, match="damaged"):
            weights.load("blocks.1.ffn.net.2")
    assert not loaded(model)


def test_without_blocks_the_model_is_one_unit() -> None:
    whole = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with StreamedWeights(model, [], of_model(whole), CPU, CPU), torch.no_grad():
        assert not loaded(model)
        assert torch.equal(model(torch.ones(1, 4)), whole(torch.ones(1, 4)))
