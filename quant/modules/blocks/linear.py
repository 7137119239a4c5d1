"""A quantized layer with what surrounds it: the norm before it in its quantization, the residual in its epilogue.

A layer that reads floats has no quantization to take the norm in: norm and modulation then run before it in plain
torch, in float32 and rounded once to the input's dtype.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.kernels import ops
from quant.modules.blocks.part import REMEDY, Part
from quant.modules.linear import QuantLinear
from quant.packing.eight_bit import storage_dtype


def unfusable(layer: QuantLinear) -> str | None:
    """Why a layer cannot be a `FusedLinear`; None where it can.

    A low-rank branch is added before activation and gate, in the place of the residual, and reads the normed input as
    floats: neither the norm nor what follows would be saved.
    """
    return f"is {layer.form.label}, and its branch stands where norm and residual would" if layer.form.rank else None


class FusedLinear(Part, QuantLinear):
    """A `QuantLinear` whose op calls also do what stands before and behind it. Its state is that layer's."""

    @classmethod
    def of(cls, layer: QuantLinear) -> FusedLinear:
        """Takes the tensors of `layer`, which are not copied."""
        fused = cls(layer.in_features, layer.out_features, layer.form, bias=False, device="meta")
        fused._buffers.clear()
        fused._buffers.update(layer._buffers)
        fused.bias = layer.bias
        return fused.train(layer.training)

    @property
    def codes(self) -> torch.dtype | None:
        """dtype of the codes that its matmul reads; None where it reads floats."""
        form = self.scheme.input_activations
        return None if form is None else storage_dtype(form)

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
            x: [..., K], 2 to 4 dimensions: floats, or codes by this layer's `input_scale`.
            norm, modulation: before quantization, as in `ops.quantize_rows`; for floats only.
            activation, residual, gate, out_scale: as in `ops.scaled_mm`.
            out_dtype: x's by default, the residual's where x is codes.

        Returns:
            [..., N].

        Raises:
            ValueError: what the ops refuse, codes for a layer that finds its scale while running, or a norm that is no
                LayerNorm before a layer that reads floats.
        """
        a, a_scale = self._entering(x, norm, modulation)
        return self._kind.multiply(
            self,
            a,
            a_scale,
            bias=self.bias,
            activation=activation,
            residual=residual,
            gate=gate,
            out_dtype=out_dtype or (x.dtype if residual is None else residual.dtype),
            out_scale=out_scale,
        )

    def _entering(
        self, x: torch.Tensor, norm: ops.Norm | None, modulation: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input as the matmul reads it: codes and their scale, or floats."""
        form, dtype = self.scheme.input_activations, self.codes
        if form is None or dtype is None:
            return _prepared(x, norm, modulation, self.pre_quant_scale), None
        if x.dtype == dtype:
            if self.input_scale is None or self.pre_quant_scale is not None:
                raise ValueError("codes as input need a layer with a static input_scale and no pre_quant_scale")
            return x, self.input_scale
        return ops.quantize_rows(
            x,
            dtype,
            scale=self.input_scale,
            pre_quant_scale=self.pre_quant_scale,
            norm=norm,
            modulation=modulation,
            group=form.group_size or 0,
        )

    def extra_repr(self) -> str:
        """With the reason, which PEFT quotes where it is asked to adapt this layer."""
        return f"{super().extra_repr()}; {REMEDY}"


def _prepared(
    x: torch.Tensor,
    norm: ops.Norm | None,
    modulation: tuple[torch.Tensor, torch.Tensor] | None,
    factor: torch.Tensor | None,
) -> torch.Tensor:
    """What `ops.quantize_rows` does before it makes codes, rounded to x's dtype."""
    if norm is None and modulation is None and factor is None:
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
    if factor is not None:
        y = y * factor
    return y.to(x.dtype)
