"""T5's feed-forward around quantized layers computes what transformers' own does, without a cast to codes' dtype."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from transformers import T5Config, UMT5Config
from transformers.models.t5.modeling_t5 import T5DenseActDense
from transformers.models.umt5.modeling_umt5 import UMT5DenseGatedActDense

import quant
from quant.layers.replace import quantized_layers, replaced
from quant.layers.t5_feed_forward import FeedForward, GatedFeedForward

SIZES = {"d_model": 64, "d_ff": 128}
PLAIN, GATED = T5DenseActDense(T5Config(**SIZES)), UMT5DenseGatedActDense(UMT5Config(**SIZES))
FP8 = quant.Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "FP8_DYNAMIC"}]}, "fp8")


@pytest.mark.parametrize(("module", "ours"), [(PLAIN, FeedForward), (GATED, GatedFeedForward)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_transformers_own_but_for_the_cast(module: Any, ours: type[FeedForward], dtype: torch.dtype) -> None:
    plain = copy.deepcopy(module).to(dtype).eval()
    if dtype == torch.float16:
        plain.wo.float()  # as `from_pretrained` keeps it
    x = torch.randn(2, 5, 64, dtype=dtype) * 20
    made = quant.quantize(plain, FP8, progress=False)
    seen: list[torch.Tensor] = []
    made.wo.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        exact = plain(x)
        assert type(plain) is type(module)
        plain.__class__ = ours
        assert torch.equal(plain(x), exact)
        found = made(x)
        assert seen[0].dtype == (torch.float32 if dtype == torch.float16 else dtype)
        assert float((found - exact).float().norm() / exact.float().norm()) < 0.08
    whole = quant.quantize(module, FP8, progress=False)
    file = io.BytesIO()
    torch.save(whole, file)
    file.seek(0)
    assert type(copy.deepcopy(whole)) is type(torch.load(file, weights_only=False)) is ours


def test_the_class_comes_back_with_the_layers() -> None:
    module = T5DenseActDense(T5Config(**SIZES)).eval()
    layers = quantized_layers(quant.quantize(module, FP8, progress=False))
    with replaced(module, {"wo": layers["wo"]}):
        assert type(module) is FeedForward
    assert type(module) is T5DenseActDense
    with replaced(module, {"wi": layers["wi"]}):
        assert type(module) is T5DenseActDense


def test_a_float8_input_is_refused() -> None:
    made = quant.quantize(torch.nn.Sequential(torch.nn.Linear(64, 64)), FP8, progress=False)
    with pytest.raises(quant.QuantError, match="float8 input: the module around it casts"):
        made(torch.randn(2, 64).to(torch.float8_e4m3fn))
