"""Attention's own parts: the backend that diffusers was told to use, rotary embedding, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from quant.errors import ModelError
from quant.layers.fused import wan_attention
from quant.layers.fused.wan_attention import AttentionCore, rotate
from tests.layers.fused.wan_blocks import DIM, HEADS, TOKENS, fused, inputs, quantized


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keyword arguments of each call of diffusers' dispatch."""
    seen: list[dict[str, Any]] = []
    inner = dispatch_attention_fn

    def dispatch(query: Any, key: Any, value: Any, **rest: Any) -> Any:
        seen.append({**rest, "shapes": (tuple(query.shape), tuple(key.shape))})
        return inner(query, key, value, **{**rest, "parallel_config": None})

    monkeypatch.setattr(wan_attention, "dispatch_attention_fn", dispatch)
    return seen


def test_the_backend_is_that_of_diffusers_processor(calls: list[dict[str, Any]]) -> None:
    block = quantized("W8A8", image=True)
    block.attn2.processor._attention_backend = AttentionBackendName._NATIVE_MATH  # set before the block was fused
    candidate = fused(block)
    candidate.attn1.core.processor._parallel_config = "of the ranks"
    candidate.attn2.core.processor._parallel_config = "of the ranks"
    with torch.no_grad():
        candidate(*inputs(image=True))
    head = DIM // HEADS
    queries = (2, TOKENS, HEADS, head)
    assert [call["shapes"] for call in calls] == [
        (queries, queries),
        (queries, (2, 512, HEADS, head)),
        (queries, (2, 3, HEADS, head)),
    ]
    assert [call["backend"] for call in calls] == [None, *[AttentionBackendName._NATIVE_MATH] * 2]
    # A text is the same on every rank, so only the video's tokens are exchanged.
    assert [call["parallel_config"] for call in calls] == ["of the ranks", None, None]


def test_diffusers_finds_where_to_set_a_backend_and_only_there() -> None:
    candidate = fused(quantized("W8A8"))
    found = {name: each for name, each in candidate.named_modules() if isinstance(each, AttentionModuleMixin)}
    assert list(found) == ["attn1.core", "attn2.core"]
    core = found["attn1.core"]
    assert isinstance(core, AttentionCore)
    assert isinstance(core.processor, WanAttnProcessor)
    assert not core._supports_qkv_fusion
    with pytest.raises(ModelError, match="a fused block runs no attention processor, so not WanAttnProcessor"):
        core.set_processor(WanAttnProcessor())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_of_pairs(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 2, 8).to(dtype)
    angles = torch.randn(1, 3, 1, 4)
    cos, sin = (each.repeat_interleave(2, -1) for each in (angles.cos(), angles.sin()))
    turned = torch.view_as_complex(x.double().view(2, 3, 2, 4, 2)) * torch.polar(torch.ones(1), angles)
    found = rotate(x, (cos, sin))
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2.0**-7
    assert torch.allclose(found.double(), torch.view_as_real(turned).flatten(-2), rtol=tolerance, atol=tolerance)
