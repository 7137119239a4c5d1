"""diffusers' side of loading and saving: a quantizer class for `from_pretrained` and `save_pretrained`.

diffusers looks `quantization_config["quant_method"]` up in two dictionaries and has no registration call, so
`register` writes into them. Weights arrive in shards, one tensor at a time, and are put where they belong packed:
full-precision weights never exist.

A config with `"fused": true` makes fused blocks of the model's blocks once all weights are there. The option comes from
the checkpoint alone: diffusers ignores, with a warning, a `quantization_config` passed for a model that has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

import torch
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import nn

from quant.checkpoint.config import COMPRESSED_TENSORS, CONFIG_KEY, METHODS, OURS, check_method, stored_layers
from quant.errors import CheckpointError
from quant.modules.linear import QuantLinear
from quant.modules.refusing import refuse_changes
from quant.modules.replace import insert_empty_layers, linears, prepack
from quant.workflows.fusing import block_module, fuse, wants_fusing


class Method(StrEnum):
    """`quant_method`, as diffusers wants it: with a `.value`."""

    OURS = OURS
    COMPRESSED_TENSORS = COMPRESSED_TENSORS


class QuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]  # diffusers ships no types
    """A quantization_config of our checkpoints, unchanged from the file."""

    def __init__(self, **fields: Any) -> None:
        check_method(fields, CONFIG_KEY)
        self.fields = fields
        self.quant_method = Method(fields["quant_method"])

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()


class Quantizer(DiffusersQuantizer):  # type: ignore[misc]
    """Loads packed layers for diffusers."""

    use_keep_in_fp32_modules = True
    is_serializable = True
    is_trainable = False

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raises CheckpointError for what would damage packed tensors or has no meaning here."""
        if not self.pre_quantized:
            raise CheckpointError(
                "the model is not a quant checkpoint; make one with 'quant calibrate' or quant.quantize(...)"
            )
        places = kwargs.get("device_map")
        if self.fuses and isinstance(places, dict) and len(set(places.values())) > 1:
            # accelerate hooks each layer before the blocks are fused, and a fused block would run none of the hooks.
            raise CheckpointError("device_map over several devices is not supported with fused blocks; name one device")
        if isinstance(places, dict) and "disk" in places.values():
            # diffusers casts tensors before it offloads them, and a scale in bf16 is another scale.
            raise CheckpointError("device_map with 'disk' is not supported for quantized layers; use 'cpu'")

    @property
    def fuses(self) -> bool:
        """Do the blocks become fused ones? As the config says, but for a load within `unfused`."""
        return wants_fusing(self.quantization_config.fields, CONFIG_KEY) and not _unfused.get()

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype:
        """The dtype of everything not packed: as asked for, else as stored."""
        if torch_dtype is not None:
            return torch_dtype
        stored = getattr(torch, str(self.quantization_config.fields.get("dtype", "bfloat16")))
        assert isinstance(stored, torch.dtype)
        return stored

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        config = self.quantization_config.fields
        if self.fuses:
            block_module(model)  # refuses before anything is read
        insert_empty_layers(model, stored_layers(config, linears(model), type(model).__name__))

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        empty = next((name for name, tensor in model.state_dict().items() if tensor.is_meta), None)
        if empty is not None:
            raise CheckpointError(f"the checkpoint has no tensor '{empty}'; is a shard missing?")
        prepack(model)
        refuse_changes(model)
        return fuse(model) if self.fuses else model

    def check_if_quantized_param(
        self, model: nn.Module, param_value: torch.Tensor, param_name: str, state_dict: Any, **kwargs: Any
    ) -> bool:
        """True for the tensors of a quantized layer, which `create_quantized_param` puts in."""
        layer, leaf = _layer_of(model, param_name)
        return isinstance(layer, QuantLinear) and leaf in layer._buffers

    def check_quantized_param_shape(self, param_name: str, current: torch.Tensor, loaded: torch.Tensor) -> None:
        """Called where shapes differ, which for this format is always an error."""
        raise CheckpointError(
            f"tensor '{param_name}' has the shape {list(loaded.shape)}, the model needs {list(current.shape)}"
        )

    def create_quantized_param(
        self,
        model: nn.Module,
        param_value: torch.Tensor,
        param_name: str,
        target_device: Any,
        state_dict: dict[str, torch.Tensor],
        unexpected_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Puts a tensor into its layer, with the dtype of the file and not diffusers' cast where its scheme has one."""
        layer, leaf = _layer_of(model, param_name)
        assert isinstance(layer, QuantLinear)
        expected = layer._buffers[leaf]
        stored = state_dict[param_name]
        assert expected is not None
        if layer.follows_dtype(leaf):
            layer._buffers[leaf] = param_value.to(target_device)
            return
        if stored.dtype != expected.dtype:
            raise CheckpointError(f"tensor '{param_name}' is {stored.dtype}, its scheme needs {expected.dtype}")
        layer._buffers[leaf] = stored.to(target_device)

    @property
    def is_compileable(self) -> bool:
        return True


_unfused: ContextVar[bool] = ContextVar("unfused", default=False)


@contextmanager
def unfused() -> Iterator[None]:
    """Within it, `from_pretrained` leaves blocks as they are whatever the checkpoint's config says."""
    token = _unfused.set(True)
    try:
        yield
    finally:
        _unfused.reset(token)


def _layer_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def register() -> None:
    """Teaches diffusers' `from_pretrained` our checkpoints. A method diffusers knows itself stays diffusers' own."""
    for method in METHODS:
        auto.AUTO_QUANTIZER_MAPPING.setdefault(method, Quantizer)
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(method, QuantizationConfig)


def mark_quantized(model: nn.Module, config: dict[str, Any]) -> None:
    """Makes a diffusers model that was quantized in memory look like a loaded one, so `save_pretrained` works."""
    quantizer = Quantizer(QuantizationConfig(**config), pre_quantized=True)
    model.is_quantized = True  # type: ignore[assignment]
    model.quantization_method = quantizer.quantization_config.quant_method
    model.hf_quantizer = quantizer
    model.register_to_config(quantization_config=quantizer.quantization_config)  # type: ignore[operator]
    refuse_changes(model)
