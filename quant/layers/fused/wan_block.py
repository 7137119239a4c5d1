"""Wan's transformer blocks with their quantized layers fused: diffusers' blocks in fewer and larger ops.

norm, modulation and quantization are one op; so are q, k and v; gate and residual are in the epilogue of the matmul
before them. Between them nothing is rounded to bf16 as diffusers rounds it: results differ by that rounding. Before
layers whose input is not quantized norm and modulation are plain torch, which rounds once, as diffusers does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quant.layers.fused.part import FUSED, FUSED_TO_CODES
from quant.layers.fused.surroundings import FusedNorm, Modulation
from quant.layers.fused.wan_attention import FusedCrossAttention, FusedSelfAttention, Rotary
from quant.layers.fused.wan_feed_forward import FusedFeedForward


class FusedWanTransformerBlock(nn.Module):
    """Called as diffusers' block; its state has the same names, dtypes and bytes as with every layer by itself.

    Attributes:
        parts: what runs fused, by name: "fused", with what is more than that, or the reason why it is not.
    """

    def __init__(self, block: Any) -> None:
        """Takes the layers of a block that `check_block` accepts, which is of no use afterwards."""
        super().__init__()
        self.scale_shift_table = block.scale_shift_table
        attn1, attn2 = FusedSelfAttention(block.attn1), FusedCrossAttention(block.attn2)
        ffn = FusedFeedForward(block.ffn)
        # In diffusers' order, which is that of the tensors in a file.
        self.norm1 = _norm(block.norm1, attn1.parts["to_qkv"])
        self.attn1 = attn1
        self.attn2 = attn2
        self.norm2 = _norm(block.norm2, attn2.parts["to_q"])
        self.ffn = ffn
        self.norm3 = _norm(block.norm3, ffn.parts["net.0.proj"])
        self.parts: dict[str, str] = {
            f"{name}.{part}": state
            for name, child in (("attn1", attn1), ("attn2", attn2), ("ffn", ffn))
            for part, state in child.parts.items()
        }
        self.train(block.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: Rotary | None,
    ) -> torch.Tensor:
        """One block.

        Args:
            hidden_states: [B, S, K].
            encoder_hidden_states: [B, T, K]: the text, behind the image's tokens where the model reads an image.
            temb: modulation by timestep, [B, 6, K], or one a token, [B, S, 6, K].
            rotary_emb: (cos, sin), each [1, S, 1, D].

        Returns:
            [B, S, K] in the dtype of `hidden_states`.
        """
        into_attention, gate, into_ffn, ffn_gate = self._modulation(temb)
        x: torch.Tensor = self.attn1(hidden_states, self.norm1, into_attention, gate, rotary_emb)
        x = self.attn2(x, encoder_hidden_states, self.norm2)
        out: torch.Tensor = self.ffn(x, self.norm3, into_ffn, ffn_gate)
        return out

    def _modulation(self, temb: torch.Tensor) -> tuple[Modulation, torch.Tensor, Modulation, torch.Tensor]:
        """(scale, shift) and gate of attention, then those of the feed-forward, each [B, 1, K] or [B, S, K]."""
        table = self.scale_shift_table + temb.float()
        rows = [row if temb.ndim == 4 else row.unsqueeze(1) for row in table.unbind(-2)]
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = rows
        return (scale, shift), gate, (ffn_scale, ffn_shift), ffn_gate


class FusedWanVACETransformerBlock(FusedWanTransformerBlock):
    """The same on the control signal of VACE (arXiv 2503.07598), with its projections in and out, which stay layers."""

    def __init__(self, block: Any) -> None:
        super().__init__(block)
        self.proj_in: nn.Module | None = block.proj_in
        self.proj_out: nn.Module | None = block.proj_out

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        control_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        rotary_emb: Rotary | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What the video's stream is given, None where there is no projection, and the control signal; [B, S, K]."""
        if self.proj_in is not None:
            control_hidden_states = self.proj_in(control_hidden_states) + hidden_states
        control = super().forward(control_hidden_states, encoder_hidden_states, temb, rotary_emb)
        return (None if self.proj_out is None else self.proj_out(control)), control


def _norm(norm: nn.Module, state: str) -> nn.Module:
    """The norm before a part: its parameters alone where it runs within that part."""
    return FusedNorm(norm) if state in (FUSED, FUSED_TO_CODES) else norm
