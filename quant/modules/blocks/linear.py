"""A quantized layer with what surrounds it: the norm before it in its quantization, the residual in its epilogue."""

from __future__ import annotations

import torch

from quant.kernels import ops
from quant.kernels.layouts import aligned_rows
from quant.modules.blocks.part import REMEDY, Part
from quant.modules.linear import QuantLinear


def unfusable(layer: QuantLinear) -> str | None:
    """Why a layer cannot be a `FusedLinear`, whose ops are those of dense 8-bit weights; None where it can."""
    form = layer.form
    weights, inputs = form.scheme.weights, form.scheme.input_activations
    dense = weights is not None and inputs is not None and weights.num_bits == 8 and not form.sparse and not form.rank
    by_rows = dense and inputs is not None and inputs.strategy != "group"
    return None if by_rows else f"is {form.label}, and fused layers are dense FP8 and INT8 ones so far"


class FusedLinear(Part, QuantLinear):
    """A `QuantLinear` whose two op calls also do what stands before and behind it. Its state is that layer's."""

    @classmethod
    def of(cls, layer: QuantLinear) -> FusedLinear:
        """Takes the tensors of `layer`, which are not copied."""
        fused = cls(layer.in_features, layer.out_features, layer.form, bias=False, device="meta")
        fused._buffers.clear()
        fused._buffers.update(layer._buffers)
        fused.bias = layer.bias
        return fused.train(layer.training)

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
            ValueError: what the ops refuse, or codes for a layer that finds its scale while running.
        """
        if x.dtype == self.weight.dtype:
            if self.input_scale is None or self.pre_quant_scale is not None:
                raise ValueError("codes as input need a layer with a static input_scale and no pre_quant_scale")
            codes, scale = x, self.input_scale
        else:
            codes, scale = ops.quantize_rows(
                x,
                self.weight.dtype,
                scale=self.input_scale,
                pre_quant_scale=self.pre_quant_scale,
                norm=norm,
                modulation=modulation,
            )
        if self.layout == aligned_rows.NAME:
            codes = aligned_rows.pack(codes)
        return ops.scaled_mm(
            codes,
            scale,
            self.weight,
            self.weight_scale.reshape(-1, 1),
            bias=self.bias,
            activation=activation,
            residual=residual,
            gate=gate,
            out_dtype=out_dtype or (x.dtype if residual is None else residual.dtype),
            out_scale=out_scale,
        )

    def extra_repr(self) -> str:
        """With the reason, which PEFT quotes where it is asked to adapt this layer."""
        return f"{super().extra_repr()}; {REMEDY}"
