"""Wan's two attentions with one matmul for each input: q, k and v of the video, k and v of the text and the image."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn

from quant.errors import ModelError
from quant.layers.fused.merged import MergedLinear
from quant.layers.fused.part import FUSED, REMEDY, Part
from quant.layers.fused.surroundings import Modulation, enter, fuse_layer, leave, merge_layers, normed

#: Tokens of the text behind those of the image; Wan's own constant, in diffusers too.
TEXT_TOKENS = 512

#: (cos, sin), each [1, S, 1, D].
Rotary = tuple[torch.Tensor, torch.Tensor]


class AttentionCore(nn.Module, AttentionModuleMixin):  # type: ignore[misc]  # diffusers ships no types
    """softmax(q k') v by the backend that diffusers was set to use; what diffusers finds when it sets one.

    Attributes:
        processor: diffusers' own, which holds the backend; it is never called.
    """

    _supports_qkv_fusion = False  # that of diffusers; the projections are one matmul already

    def __init__(self, processor: Any, *, is_cross_attention: bool) -> None:
        super().__init__()
        self.processor = processor
        self.is_cross_attention = is_cross_attention

    def set_processor(self, processor: Any) -> None:
        """Raises ModelError."""
        raise ModelError(f"a fused block runs no attention processor, so not {type(processor).__name__}; {REMEDY}")

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """query [B, S, H, D], key and value [B, T, H, D] -> [B, S, H * D] in the query's dtype."""
        out: torch.Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=None,
            dropout_p=0.0,
            is_causal=False,
            backend=self.processor._attention_backend,
            # A context that is the same on every rank is not exchanged between them.
            parallel_config=None if self.is_cross_attention else self.processor._parallel_config,
        )
        return torch.flatten(out, 2, 3).type_as(query)


class _Attention(Part):
    """What both have in common.

    Attributes:
        parts: of each part FUSED, or the reason why not.
    """

    norm_q: nn.Module
    norm_k: nn.Module
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.ModuleList

    def __init__(self, attention: Any, *, is_cross_attention: bool) -> None:
        """Takes the layers of diffusers' `WanAttention`, which is of no use afterwards."""
        super().__init__()
        self.heads: int = attention.heads
        for name, child in attention.named_children():
            self.add_module(name, child)
        self.core = AttentionCore(attention.processor, is_cross_attention=is_cross_attention)
        self.parts: dict[str, str] = {}

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.heads, -1)


class FusedSelfAttention(_Attention):
    """x + gate * to_out(attention(norm(x) * (1 + scale) + shift))."""

    to_qkv: MergedLinear

    def __init__(self, attention: Any) -> None:
        super().__init__(attention, is_cross_attention=False)
        self.parts["to_qkv"] = merge_layers(self, ("to_q", "to_k", "to_v"), "to_qkv")
        self.parts["to_out.0"] = fuse_layer(self, "to_out.0")

    def forward(
        self, x: torch.Tensor, norm: nn.Module, modulation: Modulation, gate: torch.Tensor, rotary: Rotary | None
    ) -> torch.Tensor:
        """x [B, S, K] -> the same; modulation and gate broadcast to it."""
        if self.parts["to_qkv"] == FUSED:
            query, key, value = self.to_qkv.pieces(enter(self.to_qkv, x, norm, modulation))
        else:
            y = normed(x, norm, modulation)
            query, key, value = self.to_q(y), self.to_k(y), self.to_v(y)
        query, key = self._heads(self.norm_q(query)), self._heads(self.norm_k(key))
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        return leave(self.to_out[0], self.core(query, key, self._heads(value)), x, gate)


class FusedCrossAttention(_Attention):
    """x + to_out(attention(norm(x), text) + attention(norm(x), image))."""

    to_kv: MergedLinear
    add_k_proj: nn.Module
    add_v_proj: nn.Module
    norm_added_k: nn.Module
    to_added_kv: MergedLinear

    def __init__(self, attention: Any) -> None:
        super().__init__(attention, is_cross_attention=True)
        self.reads_image = attention.add_k_proj is not None
        self.parts["to_q"] = fuse_layer(self, "to_q")
        self.parts["to_kv"] = merge_layers(self, ("to_k", "to_v"), "to_kv")
        if self.reads_image:
            self.parts["to_added_kv"] = merge_layers(self, ("add_k_proj", "add_v_proj"), "to_added_kv")
        self.parts["to_out.0"] = fuse_layer(self, "to_out.0")

    def forward(self, x: torch.Tensor, context: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """x [B, S, K], context [B, T, K] -> as x. Of an image model the last 512 tokens of the context are text."""
        query = self._heads(self.norm_q(enter(self.to_q, x, norm, None)))
        image = None
        if self.reads_image:
            image, context = context.tensor_split((context.shape[1] - TEXT_TOKENS,), dim=1)
        if self.parts["to_kv"] == FUSED:
            key, value = self.to_kv.pieces(self.to_kv(context))
        else:
            key, value = self.to_k(context), self.to_v(context)
        out = self.core(query, self._heads(self.norm_k(key)), self._heads(value))
        if image is not None:
            out = out + self._image_attention(query, image)
        return leave(self.to_out[0], out, x)

    def _image_attention(self, query: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        if self.parts["to_added_kv"] == FUSED:
            key, value = self.to_added_kv.pieces(self.to_added_kv(image))
        else:
            key, value = self.add_k_proj(image), self.add_v_proj(image)
        out: torch.Tensor = self.core(query, self._heads(self.norm_added_k(key)), self._heads(value))
        return out


def rotate(x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotary position embedding of pairs of neighbours, x [B, S, H, D]; as in diffusers' `WanAttnProcessor`."""
    first, second = x[..., 0::2], x[..., 1::2]
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = first * cos - second * sin
    out[..., 1::2] = first * sin + second * cos
    return out
