"""Wan's blocks: which can be fused, and the fused block of each. What `Family.fused_block` names."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention import FeedForward
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanTransformerBlock
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformerBlock
from torch import nn

from quant.errors import ModelError
from quant.layers.fused.part import REMEDY
from quant.layers.fused.wan_block import FusedWanTransformerBlock, FusedWanVACETransformerBlock
from quant.layers.linear import QuantLinear

_FUSED_BLOCKS: dict[type[nn.Module], type[FusedWanTransformerBlock]] = {
    WanTransformerBlock: FusedWanTransformerBlock,
    WanVACETransformerBlock: FusedWanVACETransformerBlock,
}
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "norm1": (FP32LayerNorm,),
    "attn1": (WanAttention,),
    "attn2": (WanAttention,),
    "norm2": (FP32LayerNorm, nn.Identity),
    "ffn": (FeedForward,),
    "norm3": (FP32LayerNorm,),
}
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")


def fuse_block(block: nn.Module) -> FusedWanTransformerBlock:
    """The fused version of a block that `check_block` accepts; its layers move over."""
    return _FUSED_BLOCKS[type(block)](block)


def check_block(block: nn.Module, name: str) -> None:
    """Raises ModelError, in which `name` is the block's, unless it can be fused; the block is not changed."""
    if type(block) not in _FUSED_BLOCKS:
        known = " and ".join(kind.__name__ for kind in _FUSED_BLOCKS)
        raise ModelError(f"{name}: is a {type(block).__name__}; fused forms are there of diffusers' {known}")
    _check_hooks(block, name)
    for leaf, kinds in _KINDS.items():
        if type(getattr(block, leaf)) not in kinds:
            raise ModelError(f"{name}.{leaf}: is a {type(getattr(block, leaf)).__name__}, which has no fused form")
    for leaf in ("attn1", "attn2"):
        _check_attention(getattr(block, leaf), f"{name}.{leaf}")
    for leaf in ("net.0.proj", "net.2"):
        _check_layer(block.get_submodule(f"ffn.{leaf}"), f"{name}.ffn.{leaf}")


def _check_attention(attention: Any, name: str) -> None:
    if type(attention.processor) is not WanAttnProcessor:
        raise ModelError(
            f"{name}: has a {type(attention.processor).__name__}, which a fused block would not call; "
            f"set WanAttnProcessor(), or {REMEDY}"
        )
    if attention.fused_projections:
        raise ModelError(f"{name}: was fused by diffusers; call unfuse_qkv_projections() first")
    layers = dict(attention.named_modules())
    for leaf in _PROJECTIONS:
        if leaf in layers:
            _check_layer(layers[leaf], f"{name}.{leaf}")


def _check_layer(layer: nn.Module, name: str) -> None:
    if type(layer) not in (nn.Linear, QuantLinear):
        raise ModelError(
            f"{name}: is a {type(layer).__name__}; a fused block takes plain layers, "
            f"so unload LoRA and other adapters first"
        )


def _check_hooks(block: nn.Module, name: str) -> None:
    """Hooks of torch, and those of accelerate and diffusers, which wrap `forward`: a fused layer would run none."""
    for leaf, module in block.named_modules():
        own = module.__dict__.get("forward")
        wrapped = own is not None and getattr(own, "__func__", None) is not type(module).forward
        if module._forward_hooks or module._forward_pre_hooks or wrapped:
            raise ModelError(
                f"{name}{'.' if leaf else ''}{leaf}: has a forward hook, which a fused block would not run; "
                f"remove it, or {REMEDY}"
            )
