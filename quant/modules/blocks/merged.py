"""Layers that read one input as one matmul, and what stands in their places so that names and files stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.modules.blocks.linear import FusedLinear, unfusable
from quant.modules.blocks.part import REMEDY, Part
from quant.modules.linear import QuantLinear

#: Tensors that merged layers have in common; each has rows of its own of all others.
SHARED = ("input_scale", "pre_quant_scale")


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
        if layer.scheme != first.scheme:
            return f"{name} is {layer.scheme.name}, {first_name} is {first.scheme.name}"
        if (layer.bias is None) != (first.bias is None):
            return f"one of {first_name} and {name} has a bias, the other has none"
        for leaf in SHARED:
            own, other = getattr(layer, leaf), getattr(first, leaf)
            if (own is None) != (other is None) or (own is not None and not torch.equal(own, other)):
                return f"{name} has another {leaf} than {first_name}"
    return None


class MergedLinear(FusedLinear):
    """Several layers' weights [N1, K], [N2, K], ... as one [N1 + N2 + ..., K].

    Its state is empty: `Member`s have it, under the names and in the shapes of a checkpoint.

    Attributes:
        sizes: N1, N2, ...
        weight_scale: [sum of sizes, 1], also where each layer has one scale.
    """

    sizes: tuple[int, ...]

    @classmethod
    def join(cls, layers: list[QuantLinear]) -> MergedLinear:
        """One of `layers` that have no `obstacle`; their tensors are copied."""
        first = layers[0]
        sizes = tuple(layer.out_features for layer in layers)
        merged = cls(first.in_features, sum(sizes), first.form, bias=False, device="meta")
        merged.sizes = sizes
        # As bytes: torch joins FP8 tensors on some devices only.
        merged.weight = torch.cat([layer.weight.view(torch.uint8) for layer in layers]).view(first.weight.dtype)
        merged.weight_scale = torch.cat(
            [layer.weight_scale.reshape(-1, 1).expand(layer.out_features, 1) for layer in layers]
        )
        for leaf in SHARED:
            setattr(merged, leaf, getattr(first, leaf))
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        merged.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        return merged.train(first.training)

    def pieces(self, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of the layers, views of this one's [..., sum of sizes]."""
        return torch.split(out, list(self.sizes), dim=-1)

    def tensors(self, index: int) -> dict[str, torch.Tensor]:
        """The tensors of one layer, as a checkpoint has them: views, but a copy of what layers share."""
        start = sum(self.sizes[:index])
        rows = slice(start, start + self.sizes[index])
        found = {} if self.bias is None else {"bias": self.bias.detach()[rows]}
        # A copy only where rows are padded.
        found["weight"] = self.weight[rows, : self.in_features].contiguous()
        weights = self.scheme.weights
        per_channel = weights is not None and weights.strategy == "channel"
        found["weight_scale"] = self.weight_scale[rows] if per_channel else self.weight_scale[start, :].clone()
        for leaf in SHARED:
            shared = getattr(self, leaf)
            if shared is not None:
                found[leaf] = shared.clone()  # safetensors stores no memory under two names
        return found

    def put(self, index: int, leaf: str, value: torch.Tensor) -> str | None:
        """Sets one tensor of one layer. Returns why it does not fit, and then nothing has changed."""
        current = self.tensors(index)[leaf]
        if value.shape != current.shape:
            return f"has the shape {list(value.shape)}, the layer {list(current.shape)}"
        if leaf != "bias" and value.dtype != current.dtype:
            return f"is {value.dtype}, the layer's scheme needs {current.dtype}"
        if current.is_meta:
            return "cannot be put into a layer without memory"
        start = sum(self.sizes[:index])
        rows = slice(start, start + self.sizes[index])
        with torch.no_grad():
            if leaf == "weight":
                self.weight[rows, : self.in_features].copy_(value)
            elif leaf in SHARED and index > 0:
                if not torch.equal(value.to(current.device), current):
                    return "differs from that of the layer it is one matmul with"
            elif leaf in SHARED:
                getattr(self, leaf).copy_(value)
            else:
                getattr(self, leaf)[rows].copy_(value)
        return None

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
        if name in ("weight", "bias", "weight_scale", "in_features", "out_features", "scheme", *SHARED):
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
        known = {prefix + leaf: leaf for leaf in merged.tensors(self.index)}
        for key, leaf in known.items():
            if key not in state_dict:
                missing_keys += [key] if strict else []
                continue
            reason = merged.put(self.index, leaf, state_dict[key])
            if reason is not None:
                error_msgs.append(f"{key} {reason}")
        unexpected_keys += [key for key in state_dict if strict and key.startswith(prefix) and key not in known]
