"""PEFT's LoRA layers around packed ones. Only for where PEFT is installed.

A layer adds B(A(x)) to what the packed one computes, in the dtype of its adapter. PEFT would merge an adapter by adding
to `weight`, which here are codes: these layers round the sum again and keep what was there, so that it comes back.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import layer as lora
from peft.tuners.lora.model import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn

from quant.errors import ModelError
from quant.layers.conv import QUANTIZED, QuantConv
from quant.layers.kinds import kind_of
from quant.layers.layer import QuantLayer
from quant.layers.requantize import Stored, add_to_weight

#: Ways to begin an adapter that do not read or change the weight it is for.
_INITS = (True, False, "gaussian", "orthogonal", "eva")


class PackedLora:
    """What differs from PEFT's own layers; before one of them among a class's bases.

    Attributes:
        lost: the part of each merged adapter that rounding lost; 0 while none is merged.
    """

    lost = 0.0
    _before: Stored | None = None

    @property
    def lora_variants(self) -> dict[tuple[str, ...], None]:
        """Plain LoRA only: DoRA and the others read the weight."""
        return {(): None}

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds adapters to the weight, all at once, so that it is rounded once.

        Raises:
            ModelError: the layer is offloaded, or an adapter is not finite.
        """
        own: Any = self
        names = [name for name in check_adapters_to_merge(own, adapter_names) if name in own.lora_A]
        if not names:
            return
        layer: QuantLayer = own.get_base_layer()
        if any(tensor.is_meta for tensor in layer.parameters()):
            raise ModelError("an offloaded layer cannot be merged with an adapter: fuse_lora() first, then offload")
        merged = [*own.merged_adapters, *names]
        deltas = [own.get_delta_weight(name).float() for name in merged]
        biases = [own.lora_B[name].bias * own.scaling[name] for name in merged if own.lora_bias[name]]
        if not all(torch.isfinite(tensor).all() for tensor in (*deltas, *biases)):
            raise ModelError(f"adapters {', '.join(names)}: hold values that are not finite")
        if biases and layer.bias is None:
            raise ModelError(f"adapters {', '.join(names)}: have a bias, the layer has none to add it to")
        if self._before is None:
            self._before = Stored.of(layer)
        else:  # else what was rounded would be rounded again
            self._before.put_back(layer)
        self.lost = add_to_weight(layer, _matrix(layer, sum(deltas[1:], deltas[0])))
        if biases and layer.bias is not None:
            layer.place("bias", layer.bias + sum(biases[1:], biases[0]).to(layer.bias))
        own.merged_adapters = merged

    def unmerge(self) -> None:
        """Puts back the very tensors that were there."""
        own: Any = self
        if self._before is not None:
            self._before.put_back(own.get_base_layer())
        self._before, self.lost = None, 0.0
        own.merged_adapters = []

    def _get_in_out_features(self, module: Any) -> tuple[int, int]:
        """Features, or channels of a convolution."""
        if isinstance(module, nn.Module) and hasattr(module, "in_channels"):
            return module.in_channels, module.out_channels  # type: ignore[return-value]
        return module.in_features, module.out_features

    def _get_base_layer_device_and_dtype(self, base_layer: Any) -> tuple[torch.device | None, torch.dtype | None]:
        """Where an adapter goes, and its dtype: the model's, as far as the layer has it, and never that of codes."""
        if not isinstance(base_layer, QuantLayer):
            return None, None
        bias = base_layer.bias
        return next(base_layer.parameters()).device, None if bias is None else bias.dtype


class LoraLinear(PackedLora, lora.Linear):  # type: ignore[misc]  # PEFT ships no types
    """Around a `QuantLinear`."""


class _LoraConv(PackedLora):
    """PEFT asks the layer for its class and the rank of its weight, to make convolutions of the adapter."""

    base_layer: nn.Module

    def __init__(self, base_layer: QuantConv, adapter_name: str, **kwargs: Any) -> None:
        theirs: Any = super()
        theirs.__init__(_plain(base_layer), adapter_name, **kwargs)
        self.base_layer = base_layer
        self._to_base(adapter_name)

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Makes the convolutions of an adapter."""
        theirs: Any = super()
        base: nn.Module = self.base_layer
        if not isinstance(base, QuantConv):
            theirs.update_layer(adapter_name, *args, **kwargs)
            return
        self.base_layer = _plain(base)
        try:
            theirs.update_layer(adapter_name, *args, **kwargs)
        finally:
            self.base_layer = base
        self._to_base(adapter_name)

    def _to_base(self, adapter_name: str) -> None:
        own: Any = self
        own._move_adapter_to_device_of_base_layer(adapter_name)


class LoraConv1d(_LoraConv, lora.Conv1d):  # type: ignore[misc]
    """Around a `QuantConv1d`."""


class LoraConv2d(_LoraConv, lora.Conv2d):  # type: ignore[misc]
    """Around a `QuantConv2d`."""


class LoraConv3d(_LoraConv, lora.Conv3d):  # type: ignore[misc]
    """Around a `QuantConv3d`."""


_CONVOLUTIONS: dict[type[nn.Module], type[_LoraConv]] = {
    QUANTIZED[nn.Conv1d]: LoraConv1d,
    QUANTIZED[nn.Conv2d]: LoraConv2d,
    QUANTIZED[nn.Conv3d]: LoraConv3d,
}


def teach_peft() -> None:
    """Has PEFT put these layers around packed ones, in this process; once. It has no call to register any."""
    theirs = LoraModel._create_new_module
    if getattr(theirs, "knows_packed_layers", False):
        return

    def create(lora_config: Any, adapter_name: str, target: nn.Module, **kwargs: Any) -> Any:
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(base, QuantLayer):
            return theirs(lora_config, adapter_name, target, **kwargs)
        if lora_config.init_lora_weights not in _INITS:
            raise ModelError(
                f"init_lora_weights={lora_config.init_lora_weights!r} reads or changes weights, which are packed here: "
                "use 'gaussian' or True"
            )
        if not isinstance(base, QuantConv):
            return LoraLinear(target, adapter_name, config=lora_config, **kwargs)
        made = _CONVOLUTIONS.get(type(base))
        if made is None:
            raise ModelError(f"a {type(base).__name__} does something around its convolution and takes no LoRA")
        return made(base, adapter_name, config=lora_config, **kwargs)

    create.knows_packed_layers = True  # type: ignore[attr-defined]
    LoraModel._create_new_module = staticmethod(create)


def _plain(conv: QuantConv) -> nn.Module:
    """The convolution that a packed one stands for, without values."""
    kind = next(plain for plain, ours in QUANTIZED.items() if isinstance(conv, ours))
    window = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return kind(conv.in_channels, conv.out_channels, *window, bias=conv.bias is not None, device="meta")


def _matrix(layer: QuantLayer, delta: torch.Tensor) -> torch.Tensor:
    """A change of a weight as torch has it, as [N, K]."""
    if not isinstance(layer, QuantConv):
        return delta
    kind = kind_of(_plain(layer))
    assert kind is not None
    return kind.matrix(delta)
