"""Layers that read one input as one matmul, and what stands in their places so that names and files stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.formats import rows
from quant.formats.base import TensorSpec
from quant.formats.rows import SHARED
from quant.formats.tensors import tensor_layout
from quant.layers.fused.linear import FusedLinear, unfusable
from quant.layers.fused.part import REMEDY, Part
from quant.layers.linear import QuantLinear

#: What a layer has and its member has not.
_OF_A_LAYER = (
    "weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "bias", *SHARED,
    "in_features", "out_features", "layer_format", "scheme",
)  # fmt: skip


def obstacle(layers: Mapping[str, nn.Module]) -> str | None:
    """Why these layers, by name, cannot be one matmul with one quantization of their input; None where they can."""
    packed = {name: layer for name, layer in layers.items() if isinstance(layer, QuantLinear)}
    plain = next((name for name in layers if name not in packed), None)
    if plain is not None:
        return f"{plain} is not quantized"
    for name, layer in packed.items():
        reason = unfusable(layer)
        if reason is not None:
            return f"{name} {reason}"
    (first_name, first), *others = packed.items()
    for name, layer in others:
        if (layer.scheme, layer.layer_format.sparse) != (first.scheme, first.layer_format.sparse):
            return f"{name} is {layer.layer_format.label}, {first_name} is {first.layer_format.label}"
        if (layer.bias is None) != (first.bias is None):
            return f"one of {first_name} and {name} has a bias, the other has none"
        for leaf in SHARED:
            own, other = getattr(layer, leaf), getattr(first, leaf)
            if (own is None) != (other is None) or (own is not None and not torch.equal(own, other)):
                return f"{name} has another {leaf} than {first_name}"
    for name, layer in list(packed.items())[:-1]:
        seam = layer.weight_format.seam(layer.out_features)
        if seam is not None:
            return f"{name} {seam}"
    return None


class MergedLinear(FusedLinear):
    """Several layers' weights [N1, K], [N2, K], ... as one [N1 + N2 + ..., K].

    Its state is empty: `Member`s have it, under the names and in the shapes of a checkpoint.

    Attributes:
        sizes: N1, N2, ...
        weight_scale: one a row also where each layer has one scale.
    """

    sizes: tuple[int, ...]

    @classmethod
    def join(cls, layers: list[QuantLinear]) -> MergedLinear:
        """One of `layers` that have no `obstacle`; their tensors are copied."""
        first = layers[0]
        sizes = tuple(layer.out_features for layer in layers)
        merged = cls(first.in_features, sum(sizes), first.layer_format, bias=False, device="meta")
        merged.sizes = sizes
        merged.clock = first.clock
        for leaf, tensor in rows.joined([layer.state_dict() for layer in layers], first.layer_format, sizes).items():
            merged.place(leaf, tensor)
        merged.train(first.training).prepack()
        return merged

    def pieces(self, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of the layers, views of this one's [..., sum of sizes]."""
        return torch.split(out, list(self.sizes), dim=-1)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of each layer's tensors in a checkpoint, in their order."""
        bias = () if self.bias is None else ("bias",)
        return (*bias, *tensor_layout(self.layer_format, 1, self.in_features))

    def tensors(self, index: int) -> dict[str, torch.Tensor]:
        """The tensors of one layer, as a checkpoint has them: views where they lie so, but copies of the shared."""
        whole: dict[str, torch.Tensor] = {}
        super()._save_to_state_dict(whole, "", False)
        if any(tensor.is_meta for tensor in whole.values()):
            layout = {leaf: self._layout(index, leaf) for leaf in whole}
            return {
                leaf: torch.empty(shape, dtype=dtype or whole[leaf].dtype, device="meta")
                for leaf, (dtype, shape) in layout.items()
            }
        found = rows.part(whole, self.layer_format, self.sizes, index)
        # A view into what was made for this call would keep the other layers' rows alive.
        own = {tensor.untyped_storage().data_ptr() for tensor in self._parameters.values() if tensor is not None}
        return {
            leaf: tensor if whole[leaf].untyped_storage().data_ptr() in own else tensor.clone()
            for leaf, tensor in found.items()
        }

    def put(self, index: int, given: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """Sets tensors of one layer. Returns why others do not fit, by name; of those nothing is set."""
        reasons = {leaf: self._misfit(index, leaf, value) for leaf, value in given.items()}
        fitting = {leaf: value for leaf, value in given.items() if not reasons[leaf]}
        if fitting:
            self._unpack()
            whole = dict(self._parameters)
            with torch.no_grad():
                for leaf, value in fitting.items():
                    rows.put(whole, self.layer_format, self.sizes, index, leaf, value)  # type: ignore[arg-type]
            self.prepack()
        return {leaf: reason for leaf, reason in reasons.items() if reason}

    def _layout(self, index: int, leaf: str) -> TensorSpec:
        """A tensor of one layer in a checkpoint."""
        n = self.sizes[index]
        return TensorSpec(None, (n,)) if leaf == "bias" else tensor_layout(self.layer_format, n, self.in_features)[leaf]

    def _misfit(self, index: int, leaf: str, value: torch.Tensor) -> str:
        """Why a value cannot be put there; empty where it can."""
        dtype, shape = self._layout(index, leaf)
        if value.shape != shape:
            return f"has the shape {list(value.shape)}, the layer {list(shape)}"
        if dtype is not None and value.dtype != dtype:
            return f"is {value.dtype}, the layer's scheme needs {dtype}"
        if self._is_empty():
            return "cannot be put into a layer without memory"
        if leaf in SHARED and index > 0:
            own: torch.Tensor = getattr(self, leaf)
            return (
                "" if torch.equal(value.to(own.device), own) else "differs from that of the layer it is one matmul with"
            )
        return self.weight_format.unfit(leaf, value, self.sizes[index], self.in_features) or ""

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Nothing: the members do it."""

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        unexpected_keys += [key for key in state_dict if strict and key.startswith(prefix)]


class Member(Part):
    """Stands where a merged layer was: has its name and its state, and refuses everything else with the reason."""

    def __init__(self, merged: MergedLinear, index: int, into: str) -> None:
        super().__init__()
        # Past nn.Module, which would register it here too: moved, counted and saved again with each member.
        self.__dict__["merged"] = merged
        self.index = index
        self.into = into

    def __getattr__(self, name: str) -> Any:
        if name in _OF_A_LAYER:
            raise AttributeError(f"no '{name}' here: this layer is {self._place()}; {REMEDY}")
        return super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Raises ModelError."""
        raise ModelError(f"this layer is {self._place()} and does not run alone; {REMEDY}")

    def extra_repr(self) -> str:
        """The reason, which PEFT quotes where it is asked to adapt this layer."""
        return f"{self._place()}; {REMEDY}"

    def _place(self) -> str:
        merged: MergedLinear = self.__dict__["merged"]
        start = sum(merged.sizes[: self.index])
        return f"rows {start}:{start + merged.sizes[self.index]} of {self.into}"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for leaf, tensor in self.__dict__["merged"].tensors(self.index).items():
            destination[prefix + leaf] = tensor

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        merged: MergedLinear = self.__dict__["merged"]
        known = {prefix + leaf: leaf for leaf in merged.leaves}
        missing_keys += [key for key in known if strict and key not in state_dict]
        given = {leaf: state_dict[key] for key, leaf in known.items() if key in state_dict}
        error_msgs += [f"{prefix}{leaf} {reason}" for leaf, reason in merged.put(self.index, given).items()]
        unexpected_keys += [key for key in state_dict if strict and key.startswith(prefix) and key not in known]
