"""What stands around a layer in a transformer block, fused into it where it is quantized and run apart where not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from quant.kernels import ops
from quant.layers.fused.linear import FusedLinear, unfusable
from quant.layers.fused.merged import Member, MergedLinear, obstacle
from quant.layers.fused.part import FUSED, Part
from quant.layers.linear import QuantLinear
from quant.layers.replace import replace

#: (scale, shift), float32, broadcasting to the input: x * (1 + scale) + shift.
Modulation = tuple[torch.Tensor, torch.Tensor]


class FusedNorm(Part):
    """The parameters of a LayerNorm that runs within the layers behind it; or of none at all.

    Attributes:
        weight, bias: [K] or None.
        eps: added to the variance; None where there is no norm.
    """

    def __init__(self, norm: nn.Module) -> None:
        """Takes the parameters of a `nn.LayerNorm`, or stands for a `nn.Identity`."""
        super().__init__()
        layer = norm if isinstance(norm, nn.LayerNorm) else None
        self.eps = None if layer is None else layer.eps
        self.weight = None if layer is None else layer.weight
        self.bias = None if layer is None else layer.bias

    @property
    def operand(self) -> ops.Norm | None:
        """As `ops.quantize_rows` takes it."""
        return None if self.eps is None else ops.Norm("layer", self.weight, self.bias, self.eps)


def fuse_layer(parent: nn.Module, name: str) -> str:
    """Puts a `FusedLinear` in the place of a quantized layer. Returns FUSED or the reason why not."""
    layer = parent.get_submodule(name)
    if not isinstance(layer, QuantLinear):
        return f"{name} is not quantized"
    reason = unfusable(layer)
    if reason is not None:
        return f"{name} {reason}"
    replace(parent, name, FusedLinear.of(layer))
    return FUSED


def merge_layers(parent: nn.Module, names: Sequence[str], into: str) -> str:
    """Makes one matmul `into` of layers of `parent`. Returns FUSED or the reason why not; then all is as before."""
    layers = {name: parent.get_submodule(name) for name in names}
    reason = obstacle(layers)
    if reason is not None:
        return reason
    merged = MergedLinear.join([layer for layer in layers.values() if isinstance(layer, QuantLinear)])
    for index, name in enumerate(names):
        replace(parent, name, Member(merged, index, into))
    parent.add_module(into, merged)
    return FUSED


def normed(x: torch.Tensor, norm: nn.Module, modulation: Modulation | None) -> torch.Tensor:
    """The input of layers that are not fused, in x's dtype, rounded as diffusers rounds it."""
    y: torch.Tensor = norm(x.float())
    if modulation is not None:
        scale, shift = modulation
        y = y * (1 + scale) + shift
    return y.type_as(x)


def enter(layer: nn.Module, x: torch.Tensor, norm: nn.Module, modulation: Modulation | None) -> torch.Tensor:
    """layer(norm(x) * (1 + scale) + shift)."""
    fused = isinstance(layer, FusedLinear) and isinstance(norm, FusedNorm)
    out: torch.Tensor = (
        layer(x, norm=norm.operand, modulation=modulation) if fused else layer(normed(x, norm, modulation))
    )
    return out


def leave(layer: nn.Module, x: torch.Tensor, residual: torch.Tensor, gate: torch.Tensor | None = None) -> torch.Tensor:
    """residual + gate * layer(x), in the residual's dtype."""
    fused = isinstance(layer, FusedLinear)
    out: torch.Tensor = layer(x, residual=residual, gate=gate) if fused else layer(x)
    if fused:
        return out
    if gate is None:
        return residual + out
    return (residual.float() + out.float() * gate).type_as(residual)
