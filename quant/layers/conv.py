"""The quantized convolution a loaded model runs: channels first outside, as torch has it, channels last inside.

A window that is long in one direction at most makes a matmul of rows that are views of the input, each with a scale of
its own where scales are dynamic. Any other goes to `ops.scaled_conv`, with one scale a sample, since each position is
part of many windows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input

from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.table import CONVOLUTION, op_of
from quant.kernels import ops
from quant.kernels.no_gradient import gradient_wanted
from quant.layers.autocast import autocast
from quant.layers.layer import QuantLayer
from quant.layers.straight_through import straight_through
from quant.layers.windows import from_lines, rows_of_line, window_of


class QuantConv(QuantLayer):
    """conv(quantize(x * pre_quant_scale), weight), scaled, plus bias and low-rank branch; in x's dtype.

    It is an instance of the class of torch that it stands for, whose place it can take in a subclass: see `of`.

    Attributes:
        in_channels, out_channels, kernel_size, stride, padding, dilation: as of `torch.nn.Conv3d`.
        window: the last four, in numbers.
    """

    _convolve: ClassVar[Callable[..., torch.Tensor]]
    _input_gradient: ClassVar[Callable[..., torch.Tensor]]
    in_channels: int
    out_channels: int

    @staticmethod
    def of(conv: nn.Module, layer_format: LayerFormat) -> QuantConv:
        """An empty quantized layer on the meta device for a convolution of groups 1, padded with zeros.

        A subclass, as diffusers' causal convolutions are, does something around `super().forward(x)`. Its quantized
        layer is of a class between it and torch's, so that its own forward runs and calls this file's.
        """
        plain = next(cls for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(conv, cls))
        made = _new(type(conv)) if type(conv) is not plain else QUANTIZED[plain].__new__(QUANTIZED[plain])
        made._begin(conv, layer_format)
        return made

    def _begin(self, conv: nn.Module, layer_format: LayerFormat) -> None:
        weight: Any = conv.weight
        n, k = weight.shape[0], weight[0].numel()
        QuantLayer.__init__(self, n, k, layer_format, bias=conv.bias is not None, dtype=weight.dtype, device="meta")
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode"):
            setattr(self, name, getattr(conv, name))
        self.groups, self.transposed, self.output_padding = 1, False, (0,) * len(layer_format.kernel_size)
        self.window = window_of(conv)

    @property
    def weight_size(self) -> tuple[int, int]:
        return self.out_channels, self.in_channels * self.layer_format.taps

    @property
    def by_rows(self) -> bool:
        """Is it a matmul of rows, each a window? Else `ops.scaled_conv` runs it."""
        return op_of(self.layer_format) != CONVOLUTION

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as nn.Conv3d names it
        """input [B, C, *S] or [C, *S] -> [B, N, *out] or [N, *out] in its dtype, or in that of `torch.autocast`.

        Its gradient is the straight-through one, see `quant.layers.straight_through`.
        """
        x = autocast(input)
        if x.ndim == len(self.window.kernel_size) + 1:
            return self._convolved(x[None])[0]
        return self._convolved(x)

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        bias, branch, last = self.bias, self._branch(x), x.movedim(1, -1)
        if gradient_wanted(x, bias, branch):
            out = straight_through(self, last, bias, branch, x.dtype, x.dtype)
        else:
            out = self.multiply(last, bias, branch, x.dtype, x.dtype)
        return out.movedim(-1, 1)

    def quantized(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """residual + (convolution of x [B, *S, C] + bias), [B, *out, N]."""
        window = self.window
        if self.by_rows:
            a, scale = self._input(rows_of_line(x, window), dtype)
            rows = self.product(a, scale, bias=bias, residual=None, out_dtype=out_dtype)
            out = from_lines(rows, window, window.sizes(x.shape[1:-1]))
        else:
            a, scale = self._samples(x, dtype)
            tensors, order = self._running()
            out = self.weight_format.convolve(
                tensors, order, a, scale, self.out_channels, bias=bias, out_dtype=out_dtype,
                kernel_size=window.kernel_size, stride=window.stride, padding=window.padding, dilation=window.dilation,
            )  # fmt: skip
        return out if residual is None else out + residual

    def exact(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Convolution of x [B, *S, C] + bias, [B, *out, N]."""
        window, first = self.window, x.movedim(-1, 1)
        out = type(self)._convolve(first, self.as_window(weight), bias, window.stride, window.padding, window.dilation)
        return out.movedim(1, -1).contiguous()

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The gradient of an input [B, *S, C] of this shape, of that of the output and of the weight [N, K]."""
        window, first = self.window, (shape[0], shape[-1], *shape[1:-1])
        found = type(self)._input_gradient(
            first, self.as_window(weight), grad.movedim(-1, 1), window.stride, window.padding, window.dilation
        )
        return found.movedim(1, -1)

    def _samples(self, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input as `ops.scaled_conv` reads it: codes and a scale for each sample, or floats of this dtype."""
        tensor_format = self.scheme.input_activations
        if self.pre_quant_scale is not None:
            x = x.float() * self.pre_quant_scale
        if tensor_format is None:
            return x.to(dtype), None
        codes, scale = ops.quantize_rows(x.flatten(1), storage_dtype(tensor_format), scale=self.static_scale)
        return codes.reshape(x.shape), scale

    def _branch(self, x: torch.Tensor) -> torch.Tensor | None:
        if self.low_rank_up is None or self.low_rank_down is None:
            return None
        window, down = self.window, self.as_window(self.low_rank_down.to(x.dtype))
        inner = type(self)._convolve(x, down, None, window.stride, window.padding, window.dilation)
        return F.linear(inner.movedim(1, -1), self.low_rank_up.to(x.dtype))

    def as_window(self, matrix: torch.Tensor) -> torch.Tensor:
        """A weight [N, K] as torch has it, [N, C, *kernel_size]."""
        return matrix.reshape(len(matrix), *self.window.kernel_size, self.in_channels).movedim(-1, 1)

    def _shape(self) -> str:
        window = self.window
        shape = f"{self.in_channels}, {self.out_channels}, kernel_size={window.kernel_size}, stride={window.stride}"
        return f"{shape}, padding={window.padding}, dilation={window.dilation}"


class QuantConv1d(QuantConv, nn.Conv1d):  # type: ignore[misc]  # a bias is a Parameter here
    """A quantized `nn.Conv1d`."""

    _convolve = staticmethod(F.conv1d)
    _input_gradient = staticmethod(conv1d_input)


class QuantConv2d(QuantConv, nn.Conv2d):  # type: ignore[misc]
    """A quantized `nn.Conv2d`."""

    _convolve = staticmethod(F.conv2d)
    _input_gradient = staticmethod(conv2d_input)


class QuantConv3d(QuantConv, nn.Conv3d):  # type: ignore[misc]
    """A quantized `nn.Conv3d`."""

    _convolve = staticmethod(F.conv3d)
    _input_gradient = staticmethod(conv3d_input)


#: By the class of torch that each stands for.
QUANTIZED: dict[type[nn.Module], type[QuantConv]] = {
    nn.Conv1d: QuantConv1d,
    nn.Conv2d: QuantConv2d,
    nn.Conv3d: QuantConv3d,
}


@cache
def _between(kind: type[nn.Module]) -> type[QuantConv]:
    """The class of quantized layers of a subclass of one of torch's convolutions: `super()` there finds ours."""
    base = next(ours for plain, ours in QUANTIZED.items() if issubclass(kind, plain))
    return type(f"Quant{kind.__name__}", (kind, base), {"__module__": __name__, "__reduce_ex__": _reduce})


def _new(kind: type[nn.Module]) -> QuantConv:
    made = _between(kind)  # type: ignore[arg-type]  # mypy takes a class's hash for its instances'
    return made.__new__(made)


def _reduce(layer: QuantConv, protocol: int) -> tuple[Any, ...]:
    """How a layer of a class that no module has by name is copied and pickled."""
    return _new, (type(layer).__bases__[0],), layer.__getstate__()  # type: ignore[no-untyped-call]
