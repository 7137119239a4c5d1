"""Wan blocks of a few thousand parameters with packed layers, the inputs of one call, and what it is in double."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import nn

from quant.formats.tensors import unpack_linear
from quant.layers.fused.wan import check_block, fuse_block
from quant.layers.fused.wan_block import FusedWanTransformerBlock
from quant.layers.replace import quantized_layers, replace
from tests.layers.fused.layer_formats import LAYER_FORMATS, packed

DIM, FFN, HEADS, TEXT = 72, 88, 2, 5  # not multiples of 16: rows that kernels would pad
WIDE, WIDE_FFN = 128, 256  # for scales by group and by block
BATCH, TOKENS = 2, 9
IMAGE_TOKENS = 3


class Inputs(NamedTuple):
    """What a block is called with."""

    hidden_states: torch.Tensor
    encoder_hidden_states: torch.Tensor
    temb: torch.Tensor
    rotary_emb: tuple[torch.Tensor, torch.Tensor]

    def float(self) -> Inputs:
        """The same values in float32."""
        return Inputs(
            self.hidden_states.float(), self.encoder_hidden_states.float(), self.temb.float(), self.rotary_emb
        )


def is_wide(label: str) -> bool:
    """Does this format need the wide block?"""
    weights = LAYER_FORMATS[label].scheme.weights
    return weights is not None and weights.strategy in ("group", "block")


def plain(*, dtype: torch.dtype = torch.float32, norm2: bool = True, image: bool = False, wide: bool = False) -> Any:
    """diffusers' block, seeded; every parameter drawn, in `dtype` but for what diffusers keeps in float32."""
    torch.manual_seed(0)
    dim, ffn = (WIDE, WIDE_FFN) if wide else (DIM, FFN)
    block = WanTransformerBlock(dim, ffn, HEADS, cross_attn_norm=norm2, added_kv_proj_dim=dim if image else None)
    for name, parameter in block.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.3)
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=1.2 / math.sqrt(parameter.shape[1]))
        elif name.endswith("bias") and "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    block.to(dtype).eval().requires_grad_(False)
    for module in (block.norm1, block.norm2, block.norm3):
        module.float()
    block.scale_shift_table.data = block.scale_shift_table.data.float()
    return block


def quantized(label: str, *, smoothed: bool = False, ignore: Iterable[str] = (), **options: Any) -> Any:
    """The same with packed layers. Layers that read one input have equal factors and scales, as checkpoints have."""
    block = plain(**{"wide": is_wide(label), **options})
    generator = torch.Generator().manual_seed(1)
    factors: dict[str, torch.Tensor] = {}
    for name, linear in [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear)]:
        if name in ignore:
            continue
        factor = 0.5 + torch.rand(linear.in_features, generator=generator)
        factor = factors.setdefault(_input_of(name), factor)
        replace(block, name, packed(linear, LAYER_FORMATS[label], factor=factor if smoothed else None))
    return block


def _input_of(name: str) -> str:
    parent, _, leaf = name.rpartition(".")
    if parent == "attn1" and leaf in ("to_q", "to_k", "to_v"):
        return "attn1.in"
    if parent == "attn2" and leaf in ("to_k", "to_v"):
        return "attn2.text"
    return "attn2.image" if leaf in ("add_k_proj", "add_v_proj") else name


def fused(block: Any) -> FusedWanTransformerBlock:
    """The fused version of a copy."""
    check_block(block, "block")
    return fuse_block(copy.deepcopy(block))


def exact(block: Any) -> Any:
    """A block with packed layers as diffusers' own in float32 with the weights that are stored: no input is rounded."""
    made = copy.deepcopy(block)
    for name, layer in quantized_layers(made).items():
        n, k = layer.weight_size
        linear = nn.Linear(k, n, bias=layer.bias is not None)
        tensors = {key: value for key, value in layer.state_dict().items() if key != "bias"}
        linear.weight.data = unpack_linear(tensors, layer.layer_format)
        if layer.bias is not None:
            linear.bias.data = layer.bias.detach()
        replace(made, name, linear)
    return made.float()


def inputs(
    dtype: torch.dtype = torch.float32,
    *,
    per_token: bool = False,
    image: bool = False,
    seed: int = 2,
    batch: int = BATCH,
    tokens: int = TOKENS,
    wide: bool = False,
) -> Inputs:
    """Seeded; the same values in every dtype, rounded to it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    dim = WIDE if wide else DIM
    angles = draw(1, tokens, 1, dim // HEADS // 2).repeat_interleave(2, -1)
    context = IMAGE_TOKENS + 512 if image else TEXT
    temb = draw(batch, tokens, 6, dim) if per_token else draw(batch, 6, dim)
    return Inputs(
        draw(batch, tokens, dim).to(dtype),
        draw(batch, context, dim).to(dtype),
        (0.5 * temb).to(dtype),
        (angles.cos(), angles.sin()),
    )


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())
