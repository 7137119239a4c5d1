"""Models that would become something else are refused before any work, each with its remedy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from unittest import mock

import accelerate
import diffusers
import pytest
import torch
from torch import nn

import quant
from quant.layers.checking import check_copyable, check_model
from quant.recipe import Recipe
from tests import tiny_pipeline


class LoraLinear(nn.Module):
    """peft's `tuners.lora.Linear` in small."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})


class BaseTunerLayer:
    """Of the name of peft's class."""


class Adapted(nn.Linear, BaseTunerLayer):
    pass


class Codes(nn.Parameter):
    """As bitsandbytes' and GGUF's."""


def _model(parameter: nn.Parameter | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).to(dtype)
    if parameter is not None:
        model[1].weight = parameter
    return model


def _offloaded() -> nn.Module:
    made: nn.Module = accelerate.cpu_offload(_model(), execution_device=torch.device("cpu"))
    return made


def _offloaded_in_groups() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    cpu = torch.device("cpu")
    diffusers.hooks.apply_group_offloading(model, onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    return model


def _integers() -> nn.Module:
    return _model(nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False))


REFUSED: dict[str, Callable[[], nn.Module]] = {
    r"m has a LoRA or another adapter loaded \(at '0'\).*fuse it \(pipe\.fuse_lora\(\)": lambda: nn.Sequential(
        LoraLinear(nn.Linear(8, 8))
    ),
    r"m has a LoRA .* \(at '1'\)": lambda: nn.Sequential(nn.Linear(8, 8), Adapted(8, 8)),
    r"m\.1\.weight: is a Codes, whose meaning is not known here: load": lambda: _model(Codes(torch.ones(8, 8))),
    r"m\.1\.weight: is int8, so the model is quantized already": _integers,
    r"m\.0\.weight: is float8_e4m3fn already .*load the model in bfloat16": lambda: _model(dtype=torch.float8_e4m3fn),
    r"m\.1\.weight: is complex64, which no checkpoint holds": lambda: _model(
        nn.Parameter(torch.ones(8, 8, dtype=torch.complex64))
    ),
    r"m\.0\.weight: is on meta, because accelerate has offloaded": _offloaded,
    r"m\.0 is offloaded by diffusers \(enable_group_offload\)": _offloaded_in_groups,
    r"m\.0\.weight: is a UninitializedParameter": lambda: nn.Sequential(nn.LazyLinear(8)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_it_is_refused_with_the_remedy(words: str) -> None:
    with pytest.raises(quant.QuantError, match=words):
        check_model(REFUSED[words](), "m")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_plain_model_is_not(dtype: torch.dtype) -> None:
    check_model(_model(dtype=dtype), "m")


def test_a_layer_that_the_recipe_leaves_may_be_of_any_float() -> None:
    body = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}]}
    model = _model()
    model.get_submodule("0").double()
    made = quant.quantize(model, Recipe.from_dict({**body, "ignore": ["0"]}, "r.yaml"))
    assert made.get_submodule("0").weight.dtype == torch.float64
    with pytest.raises(quant.QuantError, match=r"0\.weight: is float64; .*name the layer in the recipe's ignore$"):
        quant.quantize(model, Recipe.from_dict(body, "r.yaml"))


def test_quantize_refuses_first_of_all() -> None:
    model = tiny_pipeline.transformer()
    model.fuse_qkv_projections()
    with pytest.raises(quant.QuantError, match=r"model\.blocks\.0\.attn1 has fused projections.*call unfuse_qkv_proj"):
        quant.quantize(model, "w8a8", forward_loop=lambda m: pytest.fail("was run"))
    model.unfuse_qkv_projections()
    quant.quantize(model, "fp8-dynamic")
    with pytest.raises(quant.QuantError, match="has a LoRA"):
        quant.quantize(nn.Sequential(LoraLinear(nn.Linear(8, 8))), "fp8-dynamic")


@pytest.mark.parametrize(
    ("held", "says"), [(threading.Lock(), "cannot pickle"), (torch.ones(1, requires_grad=True) * 2, "deepcopy")]
)
def test_a_model_that_cannot_be_copied_is_refused_before_it_is_run(held: object, says: str) -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.Sequential(nn.Linear(64, 64), nn.GELU()))
    net[1][1].held = held  # type: ignore[index]
    with pytest.raises(quant.QuantError, match=rf"^model\.1\.1: cannot be copied \(.*{says}"):
        quant.quantize(net, "w8a8", forward_loop=lambda model: pytest.fail("was run"))


def test_a_copy_for_the_check_takes_no_tensors() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    copied: list[torch.Tensor] = []
    with mock.patch.object(torch.Tensor, "__deepcopy__", lambda tensor, memo: copied.append(tensor)):
        check_copyable(net, "model")
    assert copied == []
