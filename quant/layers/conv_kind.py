"""`nn.Conv1d`, `nn.Conv2d` and `nn.Conv3d` as layers to be quantized, and which of them stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from quant.formats.layer import LayerFormat
from quant.layers.carrying import attributes, is_plain
from quant.layers.conv import QuantConv
from quant.layers.conv_classes import does_around
from quant.layers.layer import QuantLayer
from quant.layers.layer_kind import LayerKind, Seen
from quant.layers.own_way import own_way
from quant.layers.windows import sampled, window_of

#: Fewer channels than this on either side, or weights in all, save nothing that counts: the first and the last layers
#: of a model, those of its latents or colours, are such.
_LEAST_CHANNELS, _LEAST_WEIGHTS = 16, 4096


class ConvKind(LayerKind):
    """Convolutions of groups 1 that pad with zeros, each a matmul of its windows.

    Row i of the matrix [N, K] is output channel i: all input channels of the first tap, then those of the next. So
    groups of columns that share a scale, and pairs of zeros, lie along input channels, as the ops read them.
    """

    classes = ("Conv1d", "Conv2d", "Conv3d")
    in_groups = False
    by_rows = True

    def holds(self, module: nn.Module) -> bool:
        return isinstance(module, _ConvNd) and not isinstance(module, QuantLayer)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[0], _product(shape[1:])

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.movedim(1, -1).flatten(1)

    def kernel_size(self, module: nn.Module) -> tuple[int, ...]:
        return () if _refusal(module) or not _is_known(type(module)) else tuple(module.kernel_size)  # type: ignore[arg-type]

    def watch(self, module: nn.Module, see: Callable[[Seen], None]) -> Callable[[], None]:
        """As of `LayerKind`. Between torch's forward and its op: a subclass may have padded the input before."""
        window, conv = window_of(module), module._conv_forward

        def seeing(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            batch = given if given.ndim == len(window.kernel_size) + 2 else given[None]
            last = batch.detach().movedim(1, -1)
            see(Seen(last.reshape(-1, last.shape[-1]), lambda count, by: sampled(last, window, count, by)))
            made: torch.Tensor = conv(given, weight, bias)  # type: ignore[operator]
            return made

        vars(module)["_conv_forward"] = seeing
        return lambda: vars(module).pop("_conv_forward", None)

    def own_way(self, model: nn.Module, name: str, module: nn.Module, readers: Mapping[int, str]) -> str:
        known = _is_known(type(module)) and "_conv_forward" not in vars(module)
        return _refusal(module) or own_way(module, known, readers) or _too_small(tuple(self.weight(module).shape))

    def empty(self, module: nn.Module, layer_format: LayerFormat) -> QuantLayer:
        made = QuantConv.of(module, layer_format)
        # What the own forward of a subclass reads, which no one else gives to a layer that is loaded.
        vars(made).update({key: value for key, value in attributes(module).items() if is_plain(value)})
        return made.train(module.training)


_AS_TORCH: tuple[Any, ...] = tuple(
    (kind.forward, kind.__call__, kind._conv_forward) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
)


def _is_known(kind: Any) -> bool:
    """Does a class run as torch's, or do what is known around that?"""
    return (kind.forward, kind.__call__, kind._conv_forward) in _AS_TORCH or does_around(kind)


def _refusal(module: nn.Module) -> str:
    """Why no op runs such a convolution; empty where one does."""
    assert isinstance(module, _ConvNd)
    if isinstance(module, _ConvTransposeNd):
        return "a transposed convolution, which no op here runs"
    if module.groups > 1:
        return f"a convolution of {module.groups} groups, which no op here runs"
    if module.padding_mode != "zeros":
        return f"a convolution that pads by '{module.padding_mode}', which no op here runs"
    uneven = any(d * (size - 1) % 2 for size, d in zip(module.kernel_size, module.dilation, strict=True))
    return "a convolution that pads one side more than the other" if module.padding == "same" and uneven else ""


def _too_small(shape: tuple[int, ...]) -> str:
    """Why it is not worth quantizing; empty where it is."""
    for channels, side in ((shape[1], "input"), (shape[0], "output")):
        if channels < _LEAST_CHANNELS:
            return f"a small convolution, of {channels} {side} channels: fewer than {_LEAST_CHANNELS} stay as they are"
    weights = _product(shape)
    few = weights < _LEAST_WEIGHTS
    return f"a small convolution, of {weights} weights: fewer than {_LEAST_WEIGHTS} stay as they are" if few else ""


def _product(sizes: tuple[int, ...]) -> int:
    return torch.Size(sizes).numel()
