"""A quantized layer with what surrounds it: the norm before it in its quantization, the residual in its epilogue.

A layer that reads floats has no quantization to take the norm in: norm and modulation then run before it in plain
torch, in float32 and rounded once to the input's dtype.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.formats.eight_bit import storage_dtype
from quant.kernels import ops, reference
from quant.kernels.arguments import Prologue
from quant.kernels.no_gradient import gradient_wanted
from quant.layers.autocast import autocast_dtype
from quant.layers.fused.part import REMEDY, Part
from quant.layers.linear import QuantLinear
from quant.layers.straight_through import straight_through


def unfusable(layer: QuantLinear) -> str | None:
    """Why a layer cannot be a `FusedLinear`; None where it can.

    A low-rank branch is added before activation and gate, in the place of the residual, and reads the normed input as
    floats: neither the norm nor what follows would be saved. An input that is not quantized at some steps has then no
    quantization to take the norm in.
    """
    layer_format = layer.layer_format
    if layer_format.rank:
        return f"is {layer_format.label}, and its branch stands where norm and residual would"
    if layer_format.steps is not None:
        return f"is {layer_format.label}, where nothing is fused into the quantization of an input"
    return None


class FusedLinear(Part, QuantLinear):
    """A `QuantLinear` whose op calls also do what stands before and behind it. Its state is that layer's.

    Where a gradient is wanted, what stands around it runs in plain torch, to the same result.
    """

    @classmethod
    def of(cls, layer: QuantLinear) -> FusedLinear:
        """Takes the tensors of `layer`, which are not copied."""
        fused = cls(layer.in_features, layer.out_features, layer.layer_format, bias=False, device="meta")
        fused._parameters.clear()
        fused._parameters.update(layer._parameters)
        fused.layout, fused.order_device = layer.layout, layer.order_device
        fused.clock = layer.clock
        return fused.train(layer.training)

    @property
    def codes(self) -> torch.dtype | None:
        """dtype of the codes that its matmul reads; None where it reads floats."""
        tensor_format = self.scheme.input_activations
        return None if tensor_format is None else storage_dtype(tensor_format)

    def forward(
        self,
        x: torch.Tensor,
        *,
        norm: ops.Norm | None = None,
        modulation: tuple[torch.Tensor, torch.Tensor] | None = None,
        activation: str = "none",
        residual: torch.Tensor | None = None,
        gate: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
        out_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """residual + gate * activation(layer(norm(x) * (1 + scale) + shift)).

        Args:
            x: [..., K], 2 to 4 dimensions: floats, or codes by this layer's `static_scale`.
            norm, modulation: before quantization, as in `ops.quantize_rows`; for floats only.
            activation, residual, gate, out_scale: as in `ops.scaled_mm`.
            out_dtype: x's (or that of `torch.autocast`) by default, the residual's where there is one.

        Returns:
            [..., N].

        Raises:
            ValueError: what the ops refuse, codes for a layer that finds its scale while running, or a norm that is no
                LayerNorm before a layer that reads floats; codes where a gradient is wanted, which they do not carry.
        """
        dtype = autocast_dtype(x)
        out_dtype = out_dtype or (dtype if residual is None else residual.dtype)
        others = (*(norm or ()), *(modulation or ()), self.bias, residual, gate)
        if gradient_wanted(x, *others):
            if out_scale is not None or x.dtype == self.codes:
                raise ValueError("codes carry no gradient: ask for floats and give floats, or run under no_grad()")
            y = _normed(x, norm, modulation) if self.codes is None else _prepared(x, norm, modulation)
            sums = straight_through(self, y, self.bias, None, torch.float32, dtype)
            return _ended(sums, activation, residual, gate).to(out_dtype)
        a, a_scale = self._entering(x, norm, modulation, dtype)
        return self.product(
            a,
            a_scale,
            bias=self.bias,
            activation=activation,
            residual=residual,
            gate=gate,
            out_dtype=out_dtype,
            out_scale=out_scale,
        )

    def _entering(
        self,
        x: torch.Tensor,
        norm: ops.Norm | None,
        modulation: tuple[torch.Tensor, torch.Tensor] | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input as the matmul reads it: codes and their scale, or floats of this dtype."""
        tensor_format, codes = self.scheme.input_activations, self.codes
        if tensor_format is None or codes is None:
            return self._input(_normed(x, norm, modulation), dtype)
        if x.dtype == codes:
            if self.input_scale is None or self.pre_quant_scale is not None:
                raise ValueError("codes as input need a layer with a static input_scale and no pre_quant_scale")
            return x, self.static_scale
        return ops.quantize_rows(
            x,
            codes,
            scale=self.static_scale,
            pre_quant_scale=self.pre_quant_scale,
            norm=norm,
            modulation=modulation,
            group=tensor_format.group_size or 0,
        )

    def extra_repr(self) -> str:
        """With the reason, which PEFT quotes where it is asked to adapt this layer."""
        return f"{super().extra_repr()}; {REMEDY}"


def _normed(
    x: torch.Tensor, norm: ops.Norm | None, modulation: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """What stands before a layer that reads floats, in float32; x itself where nothing does."""
    if norm is None and modulation is None:
        return x
    y = x.float()
    if norm is not None:
        weight, bias = (None if each is None else each.float() for each in (norm.weight, norm.bias))
        if norm.kind != "layer":
            raise ValueError(f"before a layer that reads floats a norm must be 'layer', got '{norm.kind}'")
        y = F.layer_norm(y, y.shape[-1:], weight, bias, norm.eps)
    if modulation is not None:
        scale, shift = modulation
        y = y * (1 + scale) + shift
    return y


def _prepared(
    x: torch.Tensor, norm: ops.Norm | None, modulation: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """What `ops.quantize_rows` does before it makes codes, by its definition and with a gradient."""
    kind, weight, bias, eps = norm or ("none", None, None, 0.0)
    by, shift = modulation or (None, None)
    return reference.prepare(x.float(), Prologue(None, kind, weight, bias, eps, by, shift))


def _ended(
    sums: torch.Tensor, activation: str, residual: torch.Tensor | None, gate: torch.Tensor | None
) -> torch.Tensor:
    """What an epilogue does behind the bias, by its definition and with a gradient."""
    out = reference.activate(sums, activation)
    out = out if gate is None else gate.float() * out
    return out if residual is None else residual.float() + out
