"""Wan's feed-forward with GELU, and with a static scheme also the quantization of the hidden layer, in an epilogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quant.kernels.no_gradient import gradient_wanted
from quant.layers.fused.linear import FusedLinear
from quant.layers.fused.part import FUSED_TO_CODES, Part
from quant.layers.fused.surroundings import FusedNorm, Modulation, enter, fuse_layer, leave


class FusedGelu(Part):
    """Holds `proj` under diffusers' name; GELU is in its epilogue."""

    def __init__(self, proj: FusedLinear) -> None:
        super().__init__()
        self.proj = proj


class FusedFeedForward(Part):
    """x + gate * net.2(gelu(net.0.proj(norm(x) * (1 + scale) + shift))), GELU by its tanh approximation.

    Attributes:
        parts: of each part FUSED or FUSED_TO_CODES, or the reason why not.
    """

    net: nn.ModuleList

    def __init__(self, ffn: Any) -> None:
        """Takes the layers of diffusers' `FeedForward`, which is of no use afterwards."""
        super().__init__()
        self.net = ffn.net
        self.parts = {name: fuse_layer(self, name) for name in ("net.0.proj", "net.2")}
        up = self.net[0].proj
        if isinstance(up, FusedLinear):
            self.net[0] = FusedGelu(up)
            if self._hidden_scale(up) is not None:
                self.parts["net.0.proj"] = FUSED_TO_CODES

    def forward(self, x: torch.Tensor, norm: nn.Module, modulation: Modulation, gate: torch.Tensor) -> torch.Tensor:
        """x [B, S, K] -> the same; modulation and gate broadcast to it."""
        first, down = self.net[0], self.net[2]
        if not isinstance(first, FusedGelu):
            return leave(down, enter(first, x, norm, modulation), x, gate)
        assert isinstance(norm, FusedNorm)
        scale = self._hidden_scale(first.proj)
        out_dtype = None if scale is None else first.proj.codes
        if scale is not None and gradient_wanted(x, *modulation, gate, *norm.parameters(), first.proj.bias, down.bias):
            scale, out_dtype = None, torch.float32  # codes carry no gradient; `down` makes the same of these
        hidden: torch.Tensor = first.proj(
            x,
            norm=norm.operand,
            modulation=modulation,
            activation="gelu_tanh",
            out_dtype=out_dtype,
            out_scale=scale,
        )
        return leave(down, hidden, x, gate)

    def _hidden_scale(self, up: FusedLinear) -> torch.Tensor | None:
        """The scale by which the hidden layer can leave its matmul as codes; None where it leaves as floats."""
        down = self.net[2]
        if not isinstance(down, FusedLinear) or down.pre_quant_scale is not None:
            return None
        # An epilogue makes codes of its own operands' type.
        return down.static_scale if down.codes == up.codes else None
