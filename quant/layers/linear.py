"""The quantized Linear a loaded model runs: packed tensors and two op calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional as F

from quant.errors import ModelError
from quant.formats.base import Ending
from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme
from quant.formats.table import format_of
from quant.formats.tensors import tensor_layout
from quant.kernels import ops
from quant.kernels.no_gradient import gradient_wanted
from quant.layers.autocast import autocast
from quant.layers.straight_through import straight_through

#: Tensors of a layer that are no part of its weight, in whatever order that is.
_AROUND = ("input_scale", "pre_quant_scale", "low_rank_up", "low_rank_down")


class QuantLinear(nn.Module):
    """y = quantize(x * pre_quant_scale) @ weight.T, scaled, plus bias and low-rank branch; in x's dtype.

    Tensors are buffers, so no optimizer or LoRA injection mistakes them for parameters. A dtype cast of the model
    reaches only those that a checkpoint stores in the model's dtype.

    Attributes:
        layer_format: what the layer is made of.
        weight_format: what knows how the weight lies, in a checkpoint and here.
        layout: order of the weight in memory, a name that its format knows. `state_dict()` has it as stored.
        weight, weight_packed, ...: the weight's tensors in that order.
        weight_scale: as in a checkpoint, None where the weight is not quantized; of 4-bit weights in the order of the
            codes.
        input_scale: float32 [1] where the scheme's input is static, else None.
        pre_quant_scale: float32 [K] where the layer was smoothed, else None.
        low_rank_up, low_rank_down: [N, R] and [R, K] in the model's dtype, or None.
        bias: [N] in the model's dtype, or None.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    input_scale: torch.Tensor | None
    pre_quant_scale: torch.Tensor | None
    low_rank_up: torch.Tensor | None
    low_rank_down: torch.Tensor | None
    bias: nn.Parameter | None

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
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.layer_format = layer_format
        self.weight_format = format_of(layer_format)
        self.layout = self.weight_format.stored_order
        stored = tensor_layout(layer_format, out_features, in_features)
        for name in dict.fromkeys([*stored, "weight_scale", *_AROUND]):
            if name in stored:
                of_dtype, shape = stored[name]
                self.register_buffer(name, torch.empty(shape, dtype=of_dtype or dtype, device=device))
            else:
                self.register_buffer(name, None)
        #: Tensors that follow the model's dtype.
        self._floating = {name for name, (of_dtype, _) in stored.items() if of_dtype is None}
        values = torch.empty(out_features, dtype=dtype, device=device) if bias else None
        self.bias = None if values is None else nn.Parameter(values, requires_grad=False)

    def fill(self, tensors: Mapping[str, torch.Tensor], bias: torch.Tensor | None, device: torch.device) -> QuantLinear:
        """Puts copies of the tensors of a checkpoint and of a bias into an empty layer, on `device`. Returns self."""
        for name, tensor in tensors.items():
            own = self._buffers[name]
            follows = own.dtype if own is not None and self.follows_dtype(name) else None
            # Layers that read one input were given one factor; a copy each, since safetensors saves no shared memory.
            setattr(self, name, tensor.to(device, dtype=follows, copy=True))
        if bias is not None:
            self.bias = nn.Parameter(bias.detach().clone().to(device), requires_grad=False)
        return self.prepack()

    @property
    def scheme(self) -> Scheme:
        return self.layer_format.scheme

    def follows_dtype(self, leaf: str) -> bool:
        """Is this tensor of a checkpoint stored in the model's dtype, and not in its scheme's?"""
        return leaf in self._floating

    def prepack(self) -> QuantLinear:
        """Puts the weight into the order that the ops of its device read; once, as the only copy. Returns self."""
        if any(tensor is not None and tensor.is_meta for tensor in self._buffers.values()):
            return self
        n, k = self.out_features, self.in_features
        wanted = self.weight_format.wanted_order(self._tensors(), n, k)
        if wanted != self.layout:
            self._unpack()
            if wanted != self.layout:
                self._swap(self.weight_format.running(self._weight(), wanted, n, k), wanted)
        return self

    def _unpack(self) -> None:
        """Back to the tensors of a checkpoint."""
        if self.layout != self.weight_format.stored_order:
            self._swap(self._stored(), self.weight_format.stored_order)

    def _stored(self) -> dict[str, torch.Tensor]:
        """The weight's tensors as a checkpoint has them. On the meta device only their shapes are known."""
        weight = self._weight()
        if self.layout == self.weight_format.stored_order:
            return weight
        first = next(iter(weight.values()))
        if not first.is_meta:
            return self.weight_format.stored(weight, self.layout, self.out_features, self.in_features)
        layout = self.weight_format.layout(self.out_features, self.in_features)
        return {
            name: torch.empty(shape, dtype=dtype or first.dtype, device="meta")
            for name, (dtype, shape) in layout.items()
        }

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self._buffers.items() if tensor is not None}

    def _weight(self) -> dict[str, torch.Tensor]:
        """The tensors of the weight in its order, with its scales."""
        return {name: tensor for name, tensor in self._tensors().items() if name not in _AROUND}

    def _swap(self, weight: Mapping[str, torch.Tensor], layout: str) -> None:
        around = {name: self._buffers.get(name) for name in _AROUND}
        self._buffers.clear()
        # `weight_scale` is an attribute of every layer.
        for name, tensor in {**weight, "weight_scale": weight.get("weight_scale"), **around}.items():
            self.register_buffer(name, tensor)
        self.layout = layout

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

    def multiply(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """residual + (x [..., K] @ weight.T + bias), [..., N], of 2 to 4 dimensions; without a gradient.

        Args:
            dtype: that an input which is not quantized is rounded to.
        """
        a, a_scale = self._input(x, dtype)
        return self.product(a, a_scale, bias=bias, residual=residual, out_dtype=out_dtype)

    def product(self, a: torch.Tensor, a_scale: torch.Tensor | None, **ending: Unpack[Ending]) -> torch.Tensor:
        """What the op of its weight's format makes of an input that `_input` returned."""
        return self.weight_format.multiply(self._tensors(), self.layout, a, a_scale, self.out_features, **ending)

    def dequantized(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The float32 weight [N, K] that an input is multiplied by, smoothing undone and without the branch.

        Args:
            tensors: the layer's, in the order that they are in while it runs.
        """
        weight = {name: tensor for name, tensor in tensors.items() if name not in _AROUND}
        if self.layout != self.weight_format.stored_order:
            weight = self.weight_format.stored(weight, self.layout, self.out_features, self.in_features)
        dense = self.weight_format.decode(weight)
        return dense * tensors["pre_quant_scale"] if "pre_quant_scale" in tensors else dense

    def _input(self, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input as the matmul reads it: codes and their scale, or floats of this dtype."""
        tensor_format = self.scheme.input_activations
        if tensor_format is not None:
            return ops.quantize_rows(
                x,
                storage_dtype(tensor_format),
                scale=self.input_scale,
                pre_quant_scale=self.pre_quant_scale,
                group=tensor_format.group_size or 0,
            )
        if self.pre_quant_scale is not None:
            x = x.float() * self.pre_quant_scale
        return x.to(dtype), None

    def _branch(self, x: torch.Tensor) -> torch.Tensor | None:
        if self.low_rank_up is None or self.low_rank_down is None:
            return None
        return F.linear(F.linear(x, self.low_rank_down.to(x.dtype)), self.low_rank_up.to(x.dtype))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> QuantLinear:
        """Lets `.to(device)` through and keeps the dtypes of packed tensors under `.to(dtype)`, `.half()`, ..."""
        empty = any(b is not None and b.is_meta for b in self._buffers.values())
        if not empty and self._becomes_wider(fn):
            self._unpack()
        follows = {*self._floating, *(("weight_values",) if "weight" in self._floating else ())}
        kept = {name: b for name, b in self._buffers.items() if b is not None and name not in follows}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        for name, tensor in self._buffers.items():
            if tensor is not None and tensor.ndim > 2:  # an order that `.to(memory_format=...)` takes for an image
                self._buffers[name] = tensor.contiguous()
        return self if empty else self.prepack()  # what was empty holds nothing yet that could be put into order

    def _becomes_wider(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Does `fn` give the weight elements of another width, so that it cannot stay in the order it is in?"""
        values = self._buffers.get("weight_values")
        if values is None or self.layout == self.weight_format.plain_order or "weight" not in self._floating:
            return False
        return fn(values.new_empty(1)).itemsize != values.itemsize

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias if keep_vars else self.bias.detach()
        tensors = {**self._tensors(), **self._stored()}
        for name in tensor_layout(self.layer_format, self.out_features, self.in_features):
            destination[prefix + name] = tensors[name]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *rest: Any) -> None:
        self._unpack()
        super()._load_from_state_dict(state_dict, *rest)
        self.prepack()

    def extra_repr(self) -> str:
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        smoothed = ", smoothed" if self.pre_quant_scale is not None else ""
        known = self.layout in (self.weight_format.stored_order, self.weight_format.plain_order)
        order = "" if known else f", layout={self.layout}"
        return f"{shape}, bias={self.bias is not None}, scheme={self.layer_format.label}{smoothed}{order}"
