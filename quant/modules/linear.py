"""The quantized Linear a loaded model runs: packed tensors and two op calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from quant.kernels import ops
from quant.kernels.layouts import aligned_rows
from quant.packing.linear import tensor_layout
from quant.scheme import Scheme

ROW_MAJOR = "row_major"


class QuantLinear(nn.Module):
    """y = quantize(x * pre_quant_scale) @ weight.T, scaled, plus bias; in x's dtype.

    Packed tensors are buffers, so no optimizer, dtype cast or LoRA injection mistakes them for parameters.

    Attributes:
        weight: [N, K] int8 or float8_e4m3fn; on a GPU prepacked, see `layout`. `state_dict()` has it as stored.
        weight_scale: float32 [N, 1] or [1].
        input_scale: float32 [1] where the scheme's input is static, else None.
        pre_quant_scale: float32 [K] where the layer was smoothed, else None.
        bias: [N] in the model's dtype, or None.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    input_scale: torch.Tensor | None
    pre_quant_scale: torch.Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: Scheme,
        *,
        bias: bool = True,
        smoothed: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Makes an empty layer of the right shapes; `device="meta"` allocates nothing."""
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.scheme = scheme
        stored = tensor_layout(scheme, out_features, in_features, smoothed=smoothed)
        for name in ("weight", "weight_scale", "input_scale", "pre_quant_scale"):
            if name in stored:
                of_dtype, shape = stored[name]
                self.register_buffer(name, torch.empty(shape, dtype=of_dtype, device=device))
            else:
                self.register_buffer(name, None)
        values = torch.empty(out_features, dtype=dtype, device=device) if bias else None
        self.bias = None if values is None else nn.Parameter(values, requires_grad=False)

    @classmethod
    def from_tensors(
        cls, linear: nn.Linear, scheme: Scheme, tensors: dict[str, torch.Tensor], device: torch.device
    ) -> QuantLinear:
        """Replaces `linear`, with packed tensors from `packing.pack_linear` and a copy of its bias."""
        module = cls(
            linear.in_features,
            linear.out_features,
            scheme,
            bias=linear.bias is not None,
            smoothed="pre_quant_scale" in tensors,
            dtype=linear.weight.dtype,
            device="meta",
        )
        for name, tensor in tensors.items():
            # Layers that read one input were given one factor; a copy each, since safetensors saves no shared memory.
            setattr(module, name, tensor.to(device, copy=True))
        if linear.bias is not None:
            module.bias = nn.Parameter(linear.bias.detach().clone().to(device), requires_grad=False)
        return module.train(linear.training).prepack()

    @property
    def layout(self) -> str:
        """Order of `weight` in memory: "row_major" as in a checkpoint, or that of a file in `quant.kernels.layouts`."""
        return ROW_MAJOR if self.weight.shape[1] == self.in_features else aligned_rows.NAME

    def prepack(self) -> QuantLinear:
        """Puts the weight into the order that the kernels of its device read; once, as the only copy. Returns self."""
        for_kernels = self.weight.device.type == "cuda"
        if for_kernels and self.layout == ROW_MAJOR:
            self.weight = aligned_rows.pack(self.weight)
        elif not for_kernels and self.layout == aligned_rows.NAME:
            self.weight = aligned_rows.unpack(self.weight, self.in_features)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., K] -> [..., N] in x's dtype."""
        if not 2 <= x.ndim <= 4:  # nn.Linear takes any rank, the ops 2 to 4
            return self.forward(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.out_features)
        codes, scale = ops.quantize_rows(
            x, self.weight.dtype, scale=self.input_scale, pre_quant_scale=self.pre_quant_scale
        )
        if self.layout == aligned_rows.NAME:
            codes = aligned_rows.pack(codes)
        return ops.scaled_mm(
            codes, scale, self.weight, self.weight_scale.reshape(-1, 1), bias=self.bias, out_dtype=x.dtype
        )

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> QuantLinear:
        """Lets `.to(device)` through and keeps the dtypes of packed tensors under `.to(dtype)`, `.half()`, ..."""
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self.prepack()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight = destination[f"{prefix}weight"]
        if weight.shape[1] != self.in_features:
            destination[f"{prefix}weight"] = aligned_rows.unpack(weight, self.in_features)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *rest: Any) -> None:
        if self.layout == aligned_rows.NAME:
            self.weight = aligned_rows.unpack(self.weight, self.in_features)
        super()._load_from_state_dict(state_dict, *rest)
        self.prepack()

    def extra_repr(self) -> str:
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        smoothed = ", smoothed" if self.pre_quant_scale is not None else ""
        return f"{shape}, bias={self.bias is not None}, scheme={self.scheme.name}{smoothed}"
