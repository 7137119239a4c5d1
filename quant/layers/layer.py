"""What every quantized layer is made of: the tensors of a checkpoint, in the order that ops read, and their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, Unpack

import torch
from torch import nn

from quant.formats.base import Ending
from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme
from quant.formats.table import format_of
from quant.formats.tensors import by_column, tensor_layout
from quant.kernels import ops
from quant.layers.clock import Choice, Clock
from quant.layers.offloadable import Offloadable
from quant.layers.stepping import by_step

#: Tensors of a layer that are no part of its weight, in whatever order that is.
_AROUND = ("input_scale", "bin_edges", "pre_quant_scale", "low_rank_up", "low_rank_down")


class QuantLayer(Offloadable):
    """Packed tensors of a weight [N, K], and what an op makes of them.

    Tensors are parameters without gradient, since what offloads a model moves its parameters. A dtype cast of the model
    reaches only those that a checkpoint stores in the model's dtype.

    Attributes:
        layer_format: what the layer is made of.
        weight_format: what knows how the weight lies, in a checkpoint and here.
        layout: order of the weight in memory, a name that its format knows. `state_dict()` has it as stored.
        weight, weight_packed, ...: the weight's tensors in that order.
        weight_scale: as in a checkpoint, None where the weight is not quantized; of 4-bit weights in the order of the
            codes.
        input_scale: float32 [1] where the scheme's input is static, [B, 1] where it has bins, else None.
        bin_edges: float32 [B-1], the timesteps between bins: bin i is above edge i-1, up to edge i. None without bins.
        clock: the timestep of the call of the model around; None where the layer is in no model that is followed.
        choice: whether that call is at a step at which the input is not quantized; None where there are no such steps.
        order_device: the device whose ops the weight is in order for, wherever it lies; None where that is the same.
        pre_quant_scale: float32, one an input feature or channel, where the layer was smoothed, else None.
        low_rank_up, low_rank_down: [N, R] and [R, K] in the model's dtype, or None.
        bias: [N] in the model's dtype, or None.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    input_scale: torch.Tensor | None
    bin_edges: torch.Tensor | None
    pre_quant_scale: torch.Tensor | None
    low_rank_up: torch.Tensor | None
    low_rank_down: torch.Tensor | None
    bias: nn.Parameter | None
    order_device: torch.device | None = None

    def __init__(
        self,
        n: int,
        k: int,
        layer_format: LayerFormat,
        *,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Makes an empty layer with the tensors of a checkpoint; `device="meta"` allocates nothing."""
        nn.Module.__init__(self)  # and not the next class: a convolution's would make a weight
        self.layer_format = layer_format
        self.weight_format = format_of(layer_format)
        self.layout = self.weight_format.stored_order
        stored = tensor_layout(layer_format, n, k)
        #: Tensors that follow the model's dtype.
        self._floating = {name for name, (of_dtype, _) in stored.items() if of_dtype is None}
        self._hold(
            torch.empty(n, dtype=dtype, device=device) if bias else None,
            {
                name: torch.empty(shape, dtype=of_dtype or dtype, device=device)
                for name, (of_dtype, shape) in stored.items()
            },
        )
        self.clock: Clock | None = None
        self.choice: Choice | None = None

    def follow(self, clock: Clock | None) -> None:
        """Has the layer choose by this clock; by none, as if it were in no call."""
        steps = self.layer_format.steps
        self.clock, self.choice = clock, None if clock is None or steps is None else clock.choice(steps)

    @property
    def weight_size(self) -> tuple[int, int]:
        """N and K."""
        raise NotImplementedError

    def fill(self, tensors: Mapping[str, torch.Tensor], bias: torch.Tensor | None, device: torch.device) -> Self:
        """Puts copies of the tensors of a checkpoint and of a bias into an empty layer, on `device`. Returns self."""
        for name, tensor in tensors.items():
            own = self._parameters[name]
            follows = own.dtype if own is not None and self.follows_dtype(name) else None
            # Layers that read one input were given one factor; a copy each, since safetensors saves no shared memory.
            # Row by row, as it is loaded: torch may convolve another order to other last bits.
            row_by_row = torch.contiguous_format
            self.place(name, tensor.to(device, dtype=follows, copy=True, memory_format=row_by_row))
        if bias is not None:
            self.place("bias", bias.detach().clone().to(device))
        return self.prepack()

    def place(self, name: str, tensor: torch.Tensor) -> None:
        """Puts a tensor in the place of one that the layer has, in the order it is in."""
        self._parameters[name] = nn.Parameter(tensor, requires_grad=False)

    def replace_held(self, tensors: Mapping[str, torch.Tensor], order: str) -> None:
        """Makes other tensors all of the packed ones, in their order, and puts them into the one that its op reads."""
        self._hold(self._parameters["bias"], tensors)
        self.layout = order
        self.prepack()

    def held(self) -> dict[str, torch.Tensor]:
        """The packed tensors, in the order they are in; not the bias."""
        return {name: tensor for name, tensor in self._parameters.items() if tensor is not None and name != "bias"}

    @property
    def scheme(self) -> Scheme:
        return self.layer_format.scheme

    def follows_dtype(self, leaf: str) -> bool:
        """Is this tensor of a checkpoint stored in the model's dtype, and not in its scheme's?"""
        return leaf in self._floating

    def prepack(self) -> Self:
        """Puts the weight into the order that the ops of its device read; once, as the only copy. Returns self."""
        if self._is_empty():
            return self
        n, k = self.weight_size
        wanted = self._wanted_order()
        if wanted != self.layout:
            self._unpack()
            if wanted != self.layout:
                self._swap(self.weight_format.running(self._weight(), wanted, n, k), wanted)
        return self

    def order_for(self, device: torch.device) -> Self:
        """Puts the weight into the order of the ops of a device that it is moved to for each call. Returns self."""
        self.order_device = device
        return self.prepack()

    def _wanted_order(self) -> str:
        """The order that the op reads by which the layer runs."""
        held = self.held()
        device = self.order_device or next(iter(held.values())).device
        return self.weight_format.wanted_order(held, *self.weight_size, device)

    def _is_empty(self) -> bool:
        """Is a tensor on the meta device?"""
        return any(tensor.is_meta for tensor in self.held().values())

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
            return self.weight_format.stored(weight, self.layout, *self.weight_size)
        layout = self.weight_format.layout(*self.weight_size)
        return {
            name: torch.empty(shape, dtype=dtype or first.dtype, device="meta")
            for name, (dtype, shape) in layout.items()
        }

    def _weight(self) -> dict[str, torch.Tensor]:
        """The tensors of the weight in its order, with its scales."""
        return {name: tensor for name, tensor in self.held().items() if name not in _AROUND}

    def _swap(self, weight: Mapping[str, torch.Tensor], layout: str) -> None:
        around = {name: tensor for name, tensor in self.held().items() if name in _AROUND}
        self._hold(self._parameters["bias"], {**weight, **around})
        self.layout = layout

    @property
    def precise(self) -> bool | torch.Tensor:
        """Is the input not quantized in this call? A tensor without dimensions where only the device knows."""
        if self.choice is None or self.clock is None:
            return False
        if self.choice.now is not None or self.clock.timestep is None:
            return bool(self.choice.now)
        return self.choice.steps.holds(self.clock.timestep)

    def multiply(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """What the layer makes of x, plus `residual`, in `out_dtype`; without a gradient.

        Args:
            dtype: that an input which is not quantized is rounded to.
        """

        def exact() -> torch.Tensor:
            weight = self.dequantized(self.held()).to(dtype)
            out = self.exact(x.to(dtype), weight, None if bias is None else bias.to(dtype))
            return (out if residual is None else out + residual).to(out_dtype)

        return by_step(self.precise, exact, lambda: self.quantized(x, bias, residual, out_dtype, dtype))

    def quantized(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """As `multiply`, of the input as the scheme quantizes it."""
        raise NotImplementedError

    def exact(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """What the layer makes of x with a weight [N, K] in its dtype."""
        raise NotImplementedError

    def _hold(self, bias: torch.Tensor | None, tensors: Mapping[str, torch.Tensor]) -> None:
        """Makes these all of the layer's tensors. Those of the model's dtype come first: libraries ask the first."""
        follow = [name for name in tensors if self.follows_dtype(name)]
        first: dict[str, torch.Tensor | None] = {"bias": bias, **{name: tensors[name] for name in follow}}
        self._parameters.clear()
        # `weight_scale` and what is around the weight are attributes of every layer.
        for name, tensor in {**first, **tensors, **{n: tensors.get(n) for n in ("weight_scale", *_AROUND)}}.items():
            kept = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
            self._parameters[name] = tensor if isinstance(tensor, nn.Parameter) else kept

    def product(self, a: torch.Tensor, a_scale: torch.Tensor | None, **ending: Unpack[Ending]) -> torch.Tensor:
        """What the op of its weight's format makes of an input that `_input` returned."""
        tensors, order = self._running()
        return self.weight_format.multiply(tensors, order, a, a_scale, self.weight_size[0], **ending)

    def _running(self) -> tuple[dict[str, torch.Tensor], str]:
        """The tensors as an op reads them, and their order.

        Those that accelerate brings for one call are a checkpoint's, and are put into order where they have arrived.
        """
        held, kind = self.held(), self.weight_format
        if self.layout != kind.stored_order or kind.stored_order == kind.plain_order:
            return held, self.layout
        order = self._wanted_order()
        return {**held, **kind.running(self._weight(), order, *self.weight_size)}, order

    def dequantized(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The float32 weight [N, K] that an input is multiplied by, smoothing undone and without the branch.

        Args:
            tensors: the layer's, in the order that they are in while it runs.
        """
        weight = {name: tensor for name, tensor in tensors.items() if name not in _AROUND}
        if self.layout != self.weight_format.stored_order:
            weight = self.weight_format.stored(weight, self.layout, *self.weight_size)
        dense = self.weight_format.decode(weight)
        factor = tensors.get("pre_quant_scale")
        return dense if factor is None else dense * by_column(factor, dense.shape[1])

    @property
    def static_scale(self) -> torch.Tensor | None:
        """The scale of its input in this call, one element; None where each input has its own.

        Where no timestep is known that of the widest range, which every input fits.
        """
        scale, edges = self.input_scale, self.bin_edges
        if scale is None or edges is None:
            return scale
        timestep = None if self.clock is None else self.clock.timestep
        if timestep is None:
            return scale.amax().reshape(1, 1)
        return scale.index_select(0, torch.bucketize(timestep.to(edges.device), edges).reshape(1))

    def _input(self, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The input as the matmul reads it: codes and their scale, or floats of this dtype."""
        tensor_format, factor = self.scheme.input_activations, self.pre_quant_scale
        factor = None if factor is None else by_column(factor, x.shape[-1])
        if tensor_format is not None:
            return ops.quantize_rows(
                x,
                storage_dtype(tensor_format),
                scale=self.static_scale,
                pre_quant_scale=factor,
                group=tensor_format.group_size or 0,
            )
        if factor is not None:
            x = x.float() * factor
        return x.to(dtype), None

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Lets `.to(device)` through and keeps the dtypes of packed tensors under `.to(dtype)`, `.half()`, ..."""
        empty = self._is_empty()
        if not empty and self._becomes_wider(fn):
            self._unpack()
        follows = {*self._floating, *(("weight_values",) if "weight" in self._floating else ())}
        # Detached, since torch may put other data into the very parameters.
        kept = {name: tensor.detach() for name, tensor in self.held().items() if name not in follows}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        held = self.held()
        for name, before in kept.items():
            if held[name].dtype != before.dtype:
                self.place(name, before.to(held[name].device))
        for name, tensor in self.held().items():
            if tensor.ndim > 2:  # an order that `.to(memory_format=...)` takes for an image
                self.place(name, tensor.contiguous())
        return self if empty else self.prepack()  # what was empty holds nothing yet that could be put into order

    def _becomes_wider(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        """Does `fn` give the weight elements of another width, so that it cannot stay in the order it is in?"""
        values = self.held().get("weight_values")
        if values is None or self.layout == self.weight_format.plain_order or "weight" not in self._floating:
            return False
        return fn(values.new_empty(1)).itemsize != values.itemsize

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias if keep_vars else self.bias.detach()
        tensors = {**self.held(), **self._stored()}
        for name in tensor_layout(self.layer_format, *self.weight_size):
            destination[prefix + name] = tensors[name] if keep_vars else tensors[name].detach()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *rest: Any) -> None:
        self._unpack()
        super()._load_from_state_dict(state_dict, *rest)
        self.prepack()

    def extra_repr(self) -> str:
        smoothed = ", smoothed" if self.pre_quant_scale is not None else ""
        known = self.layout in (self.weight_format.stored_order, self.weight_format.plain_order)
        order = "" if known else f", layout={self.layout}"
        return f"{self._shape()}, bias={self.bias is not None}, scheme={self.layer_format.label}{smoothed}{order}"

    def _shape(self) -> str:
        """Sizes, in words."""
        raise NotImplementedError
