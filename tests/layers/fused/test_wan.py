"""Which blocks can be fused: everything that a fused block would not run is named and refused, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers.hooks import HookRegistry
from diffusers.hooks import ModelHook as DiffusersHook
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from torch import nn

from quant.errors import ModelError
from quant.layers.fused.wan import check_block, fuse_block
from quant.layers.fused.wan_block import FusedWanVACETransformerBlock
from tests.layers.fused.wan_blocks import DIM, FFN, HEADS, fused, inputs, quantized, relative_error


class Adapter(nn.Linear):
    """What an injected LoRA looks like from outside."""


class OtherProcessor:
    """Someone's attention."""


HOOK = "has a forward hook, which a fused block would not run; remove it, or load without fused=True"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.attn1.to_k.register_forward_hook(lambda *_: None), rf"blocks\.3\.attn1\.to_k: {HOOK}"),
        (lambda b: b.ffn.net[2].register_forward_pre_hook(lambda *_: None), rf"blocks\.3\.ffn\.net\.2: {HOOK}"),
        (lambda b: b.register_forward_hook(lambda *_: None), rf"blocks\.3: {HOOK}"),
        (lambda b: add_hook_to_module(b.attn2, ModelHook()), rf"blocks\.3\.attn2: {HOOK}"),
        (
            lambda b: HookRegistry.check_if_exists_or_initialize(b.norm1).register_hook(DiffusersHook(), "mine"),
            rf"blocks\.3\.norm1: {HOOK}",
        ),
        (lambda b: setattr(b.attn2, "processor", OtherProcessor()), r"blocks\.3\.attn2: has a OtherProcessor, which a"),
        (lambda b: setattr(b.attn1, "fused_projections", True), r"attn1: was fused by diffusers; call unfuse_qkv"),
        (
            lambda b: setattr(b.attn1, "to_q", Adapter(DIM, DIM)),
            r"blocks\.3\.attn1\.to_q: is a Adapter; .* unload LoRA",
        ),
        (lambda b: setattr(b.ffn.net[0], "proj", Adapter(DIM, FFN)), r"blocks\.3\.ffn\.net\.0\.proj: is a Adapter"),
        (lambda b: setattr(b, "norm1", nn.LayerNorm(DIM)), r"blocks\.3\.norm1: is a LayerNorm, which has no fused"),
        (lambda b: setattr(b, "ffn", nn.Sequential()), r"blocks\.3\.ffn: is a Sequential, which has no fused form"),
    ],
)
def test_what_a_fused_block_would_not_run_is_refused(change: Callable[[Any], object], says: str) -> None:
    block = quantized("W8A8")
    change(block)
    before = dict(block.named_modules())
    with pytest.raises(ModelError, match=says):
        check_block(block, "blocks.3")
    assert dict(block.named_modules()) == before


def test_a_hook_that_was_removed_is_no_hook() -> None:
    block = quantized("W8A8")
    add_hook_to_module(block.attn2, ModelHook())
    remove_hook_from_module(block.attn2)
    block.attn1.register_forward_hook(lambda *_: None).remove()
    check_block(block, "blocks.3")


@pytest.mark.parametrize("kind", ["another", "a fused one"])
def test_another_block_is_refused(kind: str) -> None:
    block = nn.Linear(2, 2) if kind == "another" else fused(quantized("W8A8"))
    with pytest.raises(
        ModelError, match=r"blocks\.3: is a (Linear|FusedWanTransformerBlock); fused forms are there of"
    ):
        check_block(block, "blocks.3")


@pytest.mark.parametrize("projections", [(True, True), (False, True), (False, False)])
def test_the_control_blocks_of_vace(projections: tuple[bool, bool]) -> None:
    plain = quantized("W8A8", smoothed=True)
    block: Any = WanVACETransformerBlock(
        DIM,
        FFN,
        HEADS,
        cross_attn_norm=True,
        apply_input_projection=projections[0],
        apply_output_projection=projections[1],
    ).requires_grad_(False)
    for name in ("scale_shift_table", "attn1", "norm2", "ffn", "norm1", "norm3"):
        setattr(block, name, getattr(plain, name))
    is_cross, block.attn2 = block.attn2.is_cross_attention, plain.attn2
    assert is_cross
    video, text, temb, rotary = inputs()
    control = torch.randn(video.shape)
    expected, state = block(video, text, control, temb, rotary), block.state_dict()
    check_block(block, "vace_blocks.0")
    candidate = fuse_block(block)
    assert isinstance(candidate, FusedWanVACETransformerBlock)
    assert candidate.state_dict().keys() == state.keys()
    found = candidate(video, text, control, temb, rotary)
    assert (found[0] is None) == (expected[0] is None) == (not projections[1])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is None or relative_error(ours, theirs) < 1e-3
