"""Attention for training: plain matmuls, and a short text standing for a long one.

Two things diffusers' own attention processor does not do:

* With 80 tokens, two matmuls and a softmax have a backward pass twice as fast on a CPU as the fused kernel's.
* `WanPipeline` fills a text up to `max_sequence_length` tokens (512 by default) with zeros that cross attention
  does see. All those keys are alike, so n of them are one key with log(n) added to its score. That lets
  training meet 512 tokens at the price of 16.
"""

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn


class TrainingAttention:
    """What diffusers' `WanAttnProcessor` computes for text to video, plus `bias` on the scores of the keys."""

    def __init__(self) -> None:
        #: [B, 1, 1, keys], or None for no bias.
        self.bias: Tensor | None = None

    def __call__(
        self,
        attention: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """[B, tokens, width] to the same; the names and their order are diffusers'."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attention.norm_q(attention.to_q(hidden_states)).unflatten(2, (attention.heads, -1))
        key = attention.norm_k(attention.to_k(source)).unflatten(2, (attention.heads, -1))
        value = attention.to_v(source).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        if rotary_emb is not None:
            query, key = _rotate(query, *rotary_emb), _rotate(key, *rotary_emb)
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if self.bias is not None:
            scores = scores + self.bias
        mixed = scores.softmax(-1).to(value.dtype) @ value
        return attention.to_out[0](mixed.transpose(1, 2).flatten(2))


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding of [B, tokens, heads, width]: each pair of channels turns by its position."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosine[..., 0::2], sine[..., 1::2]
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return turned.flatten(-2).type_as(x)


def prepare(transformer: WanTransformer3DModel) -> list[TrainingAttention]:
    """Put training attention in every block; the returned ones are the cross attentions, for `bias`."""
    cross = []
    for block in transformer.blocks:
        block.attn1.processor = TrainingAttention()
        block.attn2.processor = TrainingAttention()
        cross.append(block.attn2.processor)
    return cross


def padding_bias(lengths: Tensor, tokens: int, total: int) -> Tensor:
    """Scores to add [B, 1, 1, tokens] so that `tokens` keys count as `total`.

    The text of item i has `lengths[i]` tokens; each of its `tokens - lengths[i]` zero keys stands for an equal
    share of the `total - lengths[i]` that the pipeline would have.
    """
    is_padding = torch.arange(tokens)[None] >= lengths[:, None]
    share = (total - lengths) / (tokens - lengths).clamp(min=1)
    return torch.where(is_padding, share.log()[:, None], 0.0)[:, None, None]
