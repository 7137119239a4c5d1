"""transformers' side of loading and saving: a quantizer class for `from_pretrained` and `save_pretrained`.

transformers looks `quantization_config["quant_method"]` up in two dictionaries. A method that it knows itself,
`compressed-tensors` among them, stays its own; within `quant.load` this class reads every checkpoint.

transformers without this class would only log that it does not know the method, and take codes for weights. So the
config.json of a method that is ours names a file of weights that there is not, by the words of the remedy: it stops
there, and this class takes the name away. `save_pretrained` of transformers would leave the name out, so such a model
refuses it: `quant.save` writes it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from quant.api.loading import Method, folder_loaded
from quant.checkpoint.config import CONFIG_KEY, DTYPES, stored_dtype
from quant.checkpoint.digests import check_config
from quant.checkpoint.exports.ours import Ours
from quant.checkpoint.exports.table import export_of, quant_methods, stored_layers
from quant.checkpoint.reader import headers
from quant.checkpoint.transformers_mark import MARK, MARK_KEY, mark_of
from quant.checkpoint.verifying import Verification, verify_component
from quant.errors import CheckpointError, ModelError
from quant.families.fusing import block_module, wants_fusing
from quant.formats.tensors import tensor_layout
from quant.layers.fitting import check_fit, check_rest, expected_tensors, shapes_of, value_fault
from quant.layers.following import follow_timesteps
from quant.layers.kinds import in_groups
from quant.layers.refusing import refuse_changes, refuse_foreign_saving
from quant.layers.replace import insert_empty_layers, prepack, quantized_layers
from quant.pipelines.transformers_names import held_by_others, left_out, names_in_model


class QuantizationConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers ships no types
    """A quantization_config of our checkpoints, unchanged from the file; whatever its method, read by `Quantizer`."""

    def __init__(self, **fields: Any) -> None:
        export_of(fields, CONFIG_KEY)
        self.fields = fields
        self.quant_method = Method(Ours.name)

    def get(self, key: str, default: Any = None) -> Any:
        """As of the dictionary that transformers expects before it has made this of it."""
        return self.quant_method if key == "quant_method" else self.fields.get(key, default)

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self.fields)


class Quantizer(HfQuantizer):  # type: ignore[misc]
    """Loads packed layers for transformers."""

    #: Of the files that are being loaded; none within `loading`, whose caller sees to it.
    verification = Verification(None)
    files: tuple[Path, ...] = ()

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raises CheckpointError for what would damage packed tensors or has no meaning here."""
        if not self.pre_quantized:
            raise CheckpointError(
                "the model is not a quant checkpoint; make one with 'quant convert' or quant.quantize(...)"
            )
        if not hasattr(HfQuantizer, "update_attn_implementation"):
            raise CheckpointError("this release of transformers is too old to read quantized models: upgrade it")

    def update_attn_implementation(self, config: Any) -> Any:
        """Takes the mark away, before files of weights are looked for: the first that is called with the config."""
        if getattr(config, MARK_KEY, None) == MARK:
            delattr(config, MARK_KEY)
        return config

    @property
    def where(self) -> Path:
        """The folder that errors name."""
        return folder_loaded() or self.files[0].parent

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of everything not packed: as asked for; as stored where transformers found that of codes."""
        if str(dtype).removeprefix("torch.") in DTYPES:
            return dtype
        stored = getattr(torch, stored_dtype(self.quantization_config.fields, CONFIG_KEY) or "bfloat16")
        assert isinstance(stored, torch.dtype)
        return stored

    def _process_model_before_weight_loading(
        self, model: nn.Module, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> None:
        if not checkpoint_files:
            raise CheckpointError("quantized layers are read from a checkpoint's folder, and not from a state_dict")
        self.files = tuple(Path(file) for file in checkpoint_files)
        config, where = self.quantization_config.fields, self.where
        pickled = next((path for path in self.files if path.suffix != ".safetensors"), None)
        if pickled is not None:
            raise CheckpointError(f"{pickled}: is no safetensors file; quantized layers are read from those only")
        if wants_fusing(config, CONFIG_KEY):
            block_module(model)  # which has none
        layers = stored_layers(config, in_groups(model), f"{where}: {CONFIG_KEY}")
        # Here, because transformers logs a tensor that nothing takes, and draws one that is missing.
        if folder_loaded() is None:  # else `quant.load` has checked them, or was asked not to
            self.verification = verify_component(self.files[0].parent)
        expected, stored = expected_tensors(model, layers), headers(self.files)
        names = names_in_model(model, stored, expected)
        found = {names[name]: tensor for name, tensor in stored.items()}
        elsewhere = held_by_others(model, found)
        needed = {name: spec for name, spec in expected.items() if name not in elsewhere}
        check_fit(where, needed, found, left_out(model))
        if folder_loaded() is None:
            check_config(where, self.files)
        self.shapes = shapes_of(model, layers)
        insert_empty_layers(model, layers)
        _initialized(model)

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """Leaves FP8 codes as they are where a class wants all of a layer in float32."""
        stored = param.get_dtype() if hasattr(param, "get_dtype") else str(param.dtype)
        codes = stored.startswith(("F8", "torch.float8"))
        return None if codes else super().get_new_dtype(converter, param, dtype)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        self.verification.finish()
        self.verification = Verification(None)  # a model that is loaded is copied and pickled
        for name, layer in quantized_layers(model).items():
            for leaf in tensor_layout(layer.layer_format, *layer.weight_size):
                tensor = layer.held()[leaf]
                if tensor.is_meta:
                    raise CheckpointError(
                        f"tensor '{name}.{leaf}' was left to accelerate, which moves weights while a model runs: name "
                        "one device in device_map, or let diffusers move whole models (pipe.enable_model_cpu_offload())"
                    )
                wrong = value_fault(f"{name}.{leaf}", tensor, self.shapes)
                if wrong is not None:
                    raise CheckpointError(f"{self.where}: tensor '{name}.{leaf}' {wrong}")
            layer.requires_grad_(False)
        check_rest(model, self.where)
        prepack(model)
        _finish(model)
        follow_timesteps(model)
        return model

    def _dequantize(self, model: nn.Module, dtype: torch.dtype | None = None) -> NoReturn:
        raise ModelError("quantized layers are not made into weights again: load the original model")

    @property
    def saves(self) -> bool:
        """Does transformers write a folder that is read right, by this class and without it?"""
        return mark_of(self.quantization_config.fields) is None

    def is_serializable(self) -> bool:
        return self.saves

    @property
    def is_trainable(self) -> bool:
        return False

    @property
    def is_compileable(self) -> bool:
        return True


def _initialized(model: nn.Module) -> None:
    """Keeps transformers from drawing weights by names that quantized layers have not: files hold every tensor.

    Tables that files do not hold are still made, by the modules whose they are.
    """
    for module in model.modules():
        if not module._non_persistent_buffers_set and quantized_layers(module):
            module._is_hf_initialized = True  # type: ignore[assignment]


def _finish(model: nn.Module) -> None:
    """Refuses what would make something wrong of a transformers model with packed layers."""
    config: Any = model.config
    vars(config).pop(MARK_KEY, None)  # of the files that were read; others are written
    refuse_changes(model)
    refuse_foreign_saving(model)


def register(*methods: str) -> None:
    """Teaches transformers' `from_pretrained` our checkpoints. A method it knows itself stays its own.

    Args:
        methods: those of transformers' own that this library reads from now on, in this process: with
            "compressed-tensors", layers run packed by our ops, whoever wrote the checkpoint.

    Raises:
        CheckpointError: a method that this library does not read.
    """
    ours = quant_methods()
    for method in methods:
        if method not in ours:
            raise CheckpointError(f"'{method}' is not read by this library, which reads {' and '.join(ours)}")
    for method in ours:
        if method in methods or method not in auto.AUTO_QUANTIZER_MAPPING:
            auto.AUTO_QUANTIZER_MAPPING[method] = Quantizer
            auto.AUTO_QUANTIZATION_CONFIG_MAPPING[method] = QuantizationConfig


def mark_quantized(model: nn.Module, config: dict[str, Any]) -> None:
    """Makes a transformers model that was quantized in memory look like a loaded one."""
    known: Any = model
    quantizer = Quantizer(QuantizationConfig(**config), pre_quantized=True)
    known.is_quantized = True
    known.quantization_method = quantizer.quantization_config.quant_method
    known.hf_quantizer = quantizer
    known.config.quantization_config = quantizer.quantization_config
    _finish(model)
