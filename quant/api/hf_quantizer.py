"""diffusers' side of loading and saving: a quantizer class for `from_pretrained` and `save_pretrained`.

diffusers looks `quantization_config["quant_method"]` up in two dictionaries and has no registration call, so
`register` writes into them. Weights arrive in shards, one tensor at a time, and are put where they belong packed:
full-precision weights never exist.

A config with `"fused": true` makes fused blocks of the model's blocks once all weights are there. The option comes from
the checkpoint alone: diffusers ignores, with a warning, a `quantization_config` passed for a model that has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import nn

from quant.api.loading import Method, folder_loaded
from quant.api.record import forget
from quant.checkpoint.config import CONFIG_KEY, stored_dtype
from quant.checkpoint.digests import check_config
from quant.checkpoint.exports.table import export_of, quant_methods, stored_layers
from quant.checkpoint.reader import headers
from quant.checkpoint.verifying import Verification, verify_component
from quant.errors import CheckpointError
from quant.families.fusing import block_module, fuse, wants_fusing
from quant.formats.tensors import fault, reads_as
from quant.layers.dequantize import dequantize_layers
from quant.layers.fitting import check_fit, check_rest, expected_tensors, unused_of
from quant.layers.following import follow_timesteps
from quant.layers.group_offload import order_for_group_offload
from quant.layers.kinds import in_groups
from quant.layers.layer import QuantLayer
from quant.layers.refusing import refuse_changes
from quant.layers.replace import insert_empty_layers, prepack


class QuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]  # diffusers ships no types
    """A quantization_config of our checkpoints, unchanged from the file."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.quant_method = Method(export_of(fields, CONFIG_KEY).name)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()


class Quantizer(DiffusersQuantizer):  # type: ignore[misc]
    """Loads packed layers for diffusers."""

    use_keep_in_fp32_modules = True
    is_serializable = True
    is_trainable = False
    saves = True
    #: Of the files that are being loaded; none within `loading`, whose caller sees to it.
    verification = Verification(None)

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
        """Do the blocks become fused ones? As the config says, but for a load within `loading`."""
        return wants_fusing(self.quantization_config.fields, CONFIG_KEY) and folder_loaded() is None

    @property
    def where(self) -> Path:
        """The folder that errors name."""
        return folder_loaded() or self.files[0].parent

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype:
        """The dtype of everything not packed: as asked for, else as stored."""
        if torch_dtype is not None:
            return torch_dtype
        stored = getattr(torch, stored_dtype(self.quantization_config.fields, CONFIG_KEY) or "bfloat16")
        assert isinstance(stored, torch.dtype)
        return stored

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: list[str]) -> list[str]:
        """Called once with all files, before the model is prepared: they are what is checked then."""
        self.files = [Path(file) for file in checkpoint_files]
        return loaded_keys

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        config, where = self.quantization_config.fields, self.where
        pickled = next((path for path in self.files if path.suffix != ".safetensors"), None)
        if pickled is not None:
            raise CheckpointError(f"{pickled}: is no safetensors file; quantized layers are read from those only")
        if self.fuses:
            block_module(model)  # refuses before anything is read
        layers = stored_layers(config, in_groups(model), f"{where}: {CONFIG_KEY}")
        # Here, because diffusers logs a tensor that nothing takes, and goes on.
        if folder_loaded() is None:  # else `quant.load` has checked them, or was asked not to
            self.verification = verify_component(self.files[0].parent)
        check_fit(where, expected_tensors(model, layers), headers(self.files), unused_of(model))
        if folder_loaded() is None:
            check_config(where, self.files)
        insert_empty_layers(model, layers)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        self.verification.finish()
        self.verification = Verification(None)  # a model that is loaded is copied and pickled
        empty = next((name for name, tensor in model.state_dict().items() if tensor.is_meta), None)
        if empty is not None:
            raise CheckpointError(f"the checkpoint has no tensor '{empty}'; is a shard missing?")
        check_rest(model, self.where)
        prepack(model)
        refuse_changes(model)
        if self.fuses:
            fuse(model)
        follow_timesteps(model)
        order_for_group_offload(model)
        return model

    def check_if_quantized_param(
        self, model: nn.Module, param_value: torch.Tensor, param_name: str, state_dict: Any, **kwargs: Any
    ) -> bool:
        """True for the tensors of a quantized layer, which `create_quantized_param` puts in."""
        layer, leaf = _layer_of(model, param_name)
        return isinstance(layer, QuantLayer) and leaf in layer.held()

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
        assert isinstance(layer, QuantLayer)
        expected = layer.held()[leaf]
        stored = state_dict[param_name]
        if layer.follows_dtype(leaf):
            stored = param_value
        elif reads_as(expected.dtype, stored.dtype):
            stored = stored.to(expected.dtype)
        else:
            raise CheckpointError(f"tensor '{param_name}' is {stored.dtype}, its scheme needs {expected.dtype}")
        # As it arrives: a device map puts weights into their order before all are there.
        wrong = fault(leaf, stored, layer.layer_format, *layer.weight_size)
        if wrong is not None:
            self.verification.finish()  # where the file is damaged, that is the reason
            raise CheckpointError(f"{self.where}: tensor '{param_name}' {wrong}")
        layer.place(leaf, stored.to(target_device))

    def _dequantize(self, model: nn.Module) -> nn.Module:
        """As `quant.layers.dequantize`; the model's config has no quantization_config afterwards."""
        fields = self.quantization_config.fields
        dequantize_layers(model, getattr(torch, stored_dtype(fields, CONFIG_KEY) or "bfloat16"))
        forget(model)
        known: Any = model
        config = {key: value for key, value in known.config.items() if key != CONFIG_KEY}
        known._internal_dict = FrozenDict(config)
        known.quantization_method = None
        return model

    @property
    def is_compileable(self) -> bool:
        return True


def _layer_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def register() -> None:
    """Teaches diffusers' `from_pretrained` our checkpoints. A method diffusers knows itself stays diffusers' own."""
    for method in quant_methods():
        auto.AUTO_QUANTIZER_MAPPING.setdefault(method, Quantizer)
        auto.AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(method, QuantizationConfig)


def mark_quantized(model: nn.Module, config: dict[str, Any]) -> None:
    """Makes a diffusers model that was quantized in memory look like a loaded one, so `save_pretrained` works."""
    quantizer = Quantizer(QuantizationConfig(**config), pre_quantized=True)
    model.is_quantized = True  # type: ignore[assignment]
    model.quantization_method = quantizer.quantization_config.quant_method
    model.hf_quantizer = quantizer
    model.register_to_config(quantization_config=quantizer.quantization_config)  # type: ignore[operator]
