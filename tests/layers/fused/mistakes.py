"""Mistakes that a fused block could hold, made in a right one: each has to be seen by the comparison of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from quant.layers.fused.linear import FusedLinear
from quant.layers.fused.merged import MergedLinear
from quant.layers.fused.wan_block import FusedWanTransformerBlock

Block = FusedWanTransformerBlock


def _swap(merged: MergedLinear, one: int, other: int) -> None:
    """The outputs of two merged layers, taken for each other."""
    order = list(range(len(merged.sizes)))
    order[one], order[other] = other, one
    pieces = merged.pieces
    merged.pieces = lambda out: tuple(pieces(out)[i] for i in order)  # type: ignore[method-assign]


def _without(layer: Any, operand: str, value: Any = None) -> None:
    """Calls of a layer get another value for one operand."""
    forward = layer.forward
    layer.forward = lambda x, **rest: forward(x, **{**rest, operand: value})


def _changed(layer: Any, operand: str, change: Callable[[Any], Any]) -> None:
    forward = layer.forward
    layer.forward = lambda x, **rest: forward(x, **{**rest, operand: change(rest[operand])})


def _modulation_rows(block: Block, *order: int) -> None:
    block.scale_shift_table = torch.nn.Parameter(block.scale_shift_table[:, list(order)], requires_grad=False)
    inner = block._modulation
    block._modulation = lambda temb: inner(temb[..., list(order), :])  # type: ignore[method-assign]


def _core_without_rotary(block: Block) -> None:
    attention: Any = block.attn1
    forward = attention.forward
    attention.forward = lambda *args: forward(*args[:-1], None)


def _wrong_row_scales(layer: FusedLinear) -> None:
    """The scales of the first merged layer for all: what a forgotten expansion would do."""
    layer.place("weight_scale", layer.weight_scale[:1].expand_as(layer.weight_scale))


def _no_bias(layer: FusedLinear) -> None:
    layer.bias = None


MISTAKES: dict[str, Callable[[Block], object]] = {
    "q and k swapped": lambda b: _swap(b.attn1.to_qkv, 0, 1),
    "k and v swapped": lambda b: _swap(b.attn1.to_qkv, 1, 2),
    "k and v of the text swapped": lambda b: _swap(b.attn2.to_kv, 0, 1),
    "no gate on attention": lambda b: _without(b.attn1.to_out[0], "gate"),
    "no gate on the feed-forward": lambda b: _without(b.ffn.net[2], "gate"),
    "no residual on attention": lambda b: _changed(b.attn1.to_out[0], "residual", torch.zeros_like),
    "no residual on cross-attention": lambda b: _changed(b.attn2.to_out[0], "residual", torch.zeros_like),
    "no residual on the feed-forward": lambda b: _changed(b.ffn.net[2], "residual", torch.zeros_like),
    "scale and shift swapped": lambda b: _changed(b.attn1.to_qkv, "modulation", lambda m: m[::-1]),
    "scale and shift of the feed-forward swapped": lambda b: _changed(
        b.ffn.net[0].proj, "modulation", lambda m: m[::-1]
    ),
    "rows of modulation of the two parts swapped": lambda b: _modulation_rows(b, 3, 4, 5, 0, 1, 2),
    "gate and shift swapped": lambda b: _modulation_rows(b, 2, 1, 0, 3, 4, 5),
    "no norm before attention": lambda b: _without(b.attn1.to_qkv, "norm"),
    "no norm before cross-attention": lambda b: _without(b.attn2.to_q, "norm"),
    "no norm before the feed-forward": lambda b: _without(b.ffn.net[0].proj, "norm"),
    "norm2 without its weight": lambda b: _changed(b.attn2.to_q, "norm", lambda n: n._replace(weight=None)),
    "norm2 without its bias": lambda b: _changed(b.attn2.to_q, "norm", lambda n: n._replace(bias=None)),
    "no GELU": lambda b: _without(b.ffn.net[0].proj, "activation", "none"),
    "SiLU for GELU": lambda b: _without(b.ffn.net[0].proj, "activation", "silu"),
    "no rotary embedding": _core_without_rotary,
    "one row's scale for all": lambda b: _wrong_row_scales(b.attn1.to_qkv),
    "no bias of q, k and v": lambda b: _no_bias(b.attn1.to_qkv),
    "no q norm": lambda b: setattr(b.attn1, "norm_q", torch.nn.Identity()),
    "no k norm of the text": lambda b: setattr(b.attn2, "norm_k", torch.nn.Identity()),
}

#: Only where the model reads an image.
IMAGE_MISTAKES: dict[str, Callable[[Block], object]] = {
    "k and v of the image swapped": lambda b: _swap(b.attn2.to_added_kv, 0, 1),
    "the image not read": lambda b: setattr(b.attn2, "_image_attention", lambda query, image: 0),
    "the text's projection for the image": lambda b: setattr(b.attn2, "to_added_kv", b.attn2.to_kv),
    "no k norm of the image": lambda b: setattr(b.attn2, "norm_added_k", torch.nn.Identity()),
}

#: Only of a static scheme, whose hidden layer leaves its matmul as codes.
STATIC_MISTAKES: dict[str, Callable[[Block], object]] = {
    "another scale of the hidden layer": lambda b: _without(b.ffn.net[0].proj, "out_scale", torch.tensor([0.03])),
}

#: Only of a smoothed layer.
SMOOTHED_MISTAKES: dict[str, Callable[[Block], object]] = {
    "no factor for q, k and v": lambda b: setattr(b.attn1.to_qkv, "pre_quant_scale", None),
    "no factor for k and v of the text": lambda b: setattr(b.attn2.to_kv, "pre_quant_scale", None),
    "no factor in the feed-forward": lambda b: setattr(b.ffn.net[2], "pre_quant_scale", None),
}
