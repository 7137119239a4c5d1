"""The model against estimates that were made by hand beforehand, for eight models, with their own rates.

They reckon with an H100 at 600 TFLOP/s for attention in bf16, 700 for matmuls in bf16 and 1300 in FP8, and with what
the video's tokens cost: self-attention and the Linears that read them. So memory is given no time here, and models
with cross-attention no text.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest

from quant.eval.bench.blocks import block_operations
from quant.eval.bench.gpus import Gpu, Rate
from quant.eval.bench.roofline import by_kind, predict_operations, total
from quant.eval.bench.sizes import Model, layers, models
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from tests.eval.bench.small import kept


def rate(achieved: float) -> Rate:
    return Rate(achieved, achieved, "the estimates'")


GPU = Gpu(
    "estimates",
    "H100 of the estimates",
    (),
    "sm_90a",
    "none",
    {
        "matmul bf16": rate(700e12),
        "matmul fp8": rate(1300e12),
        "attention bf16": rate(600e12),
        "memory": rate(math.inf),
    },
)


def sized(like: str, d: int, ff: int, heads: int, video: int, text: int) -> Model:
    """A model with the structure of another."""
    return models()[like]._replace(d=d, ff=ff, heads=heads, head_dim=d // heads, video_tokens=video, text_tokens=text)


class Estimate(NamedTuple):
    model: Model
    attention: str
    fp8: str


ESTIMATES = {
    "Wan2.1 1.3B 480p": Estimate(models()["wan-1.3b"]._replace(text_tokens=0), "74%", "1.14x"),
    "Wan 14B 480p": Estimate(models()["wan-14b"]._replace(text_tokens=0), "57%", "1.25x"),
    "Wan 14B 720p": Estimate(models()["wan-14b"]._replace(text_tokens=0, video_tokens=75_600), "75%", "1.13x"),
    "Wan2.2 5B": Estimate(sized("wan-14b", 3072, 14_336, 24, 27_280, 0), "57%", "1.24x"),
    # One set of weights for both streams: as many multiplications a token as two sets.
    "CogVideoX-5B": Estimate(sized("hunyuan", 3072, 12_288, 48, 17_550, 226), "53%", "1.28x"),
    "HunyuanVideo 720p": Estimate(models()["hunyuan"], "88%", "1.06x"),
    "LTX-Video 2B": Estimate(sized("ltx-13b", 2048, 8192, 32, 6144, 0), "33%", "1.44x"),
    "LTX-Video 13B": Estimate(models()["ltx-13b"]._replace(text_tokens=0), "35%", "1.43x"),
}


@pytest.mark.parametrize("estimate", ESTIMATES.values(), ids=ESTIMATES)
def test_the_estimates_follow(estimate: Estimate) -> None:
    model = estimate.model
    bf16 = predict_operations(block_operations(model, {}), GPU)
    assert f"{by_kind(bf16)['attention'] / total(bf16):.0%}" == estimate.attention
    layer_formats = {
        each.name: LayerFormat(SCHEMES["FP8_DYNAMIC"]) for each in layers(model) if each.name not in kept(model)
    }
    for fused in (False, True):
        fp8 = predict_operations(block_operations(model, layer_formats, fused=fused), GPU)
        assert f"{total(bf16) / total(fp8):.2f}x" == estimate.fp8


def test_a_step_of_wan_14b() -> None:
    """Two forwards of 40 blocks were estimated at 5.16 s, where an engine measures 5.18."""
    model = ESTIMATES["Wan 14B 480p"].model
    step = 2 * model.layers * total(predict_operations(block_operations(model, {}), GPU))
    assert step == pytest.approx(5.16, rel=5e-3)
