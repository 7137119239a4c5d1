"""The quantized Linear a loaded model runs: packed tensors and two op calls."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.kernels.no_gradient import gradient_wanted
from quant.layers.autocast import autocast
from quant.layers.layer import QuantLayer
from quant.layers.straight_through import straight_through


class QuantLinear(QuantLayer):
    """y = quantize(x * pre_quant_scale) @ weight.T, scaled, plus bias and low-rank branch; in x's dtype."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        layer_format: LayerFormat,
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Makes an empty layer with the tensors of a checkpoint; `device="meta"` allocates nothing."""
        super().__init__(out_features, in_features, layer_format, bias=bias, dtype=dtype, device=device)
        self.in_features = in_features
        self.out_features = out_features

    @property
    def weight_size(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as nn.Linear names it
        """input [..., K] -> [..., N] in its dtype, or in that of `torch.autocast`.

        Its gradient is the straight-through one, see `quant.layers.straight_through`.
        """
        if input.is_floating_point() and input.itemsize == 1:
            raise ModelError(
                "a quantized layer got a float8 input: the module around it casts to its weight's dtype, which is that "
                "of codes; name the layer in the recipe's ignore"
            )
        x = autocast(input)
        if not 2 <= x.ndim <= 4:  # nn.Linear takes any rank, the ops 2 to 4
            return self.forward(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)
        bias, branch = self.bias, self._branch(x)
        if gradient_wanted(x, bias, branch):
            return straight_through(self, x, bias, branch, x.dtype, x.dtype)
        return self.multiply(x, bias, branch, x.dtype, x.dtype)

    def quantized(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """residual + (x [..., K] @ weight.T + bias), [..., N], of 2 to 4 dimensions."""
        a, a_scale = self._input(x, dtype)
        return self.product(a, a_scale, bias=bias, residual=residual, out_dtype=out_dtype)

    def exact(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x [..., K] @ weight.T + bias, [..., N]."""
        return F.linear(x, weight, bias)

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The gradient of an input [..., K] of this shape, of that of the output and of the weight [N, K]."""
        return grad @ weight

    def _branch(self, x: torch.Tensor) -> torch.Tensor | None:
        if self.low_rank_up is None or self.low_rank_down is None:
            return None
        return F.linear(F.linear(x, self.low_rank_down.to(x.dtype)), self.low_rank_up.to(x.dtype))

    def _shape(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
