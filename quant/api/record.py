"""What a quantized model in memory knows about itself, so that it can be saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from quant.errors import ModelError
from quant.layers.following import follow_timesteps
from quant.layers.group_offload import order_for_group_offload
from quant.layers.refusing import refuse_changes, refuse_foreign_saving
from quant.pipelines.skeleton import is_transformers

_ATTRIBUTE = "quant_record"


@dataclass(frozen=True)
class Record:
    """Kept on a model as `quant_record`.

    Attributes:
        config: its quantization_config.
        provenance: recipe, hash, versions and calibration; empty where a checkpoint without a manifest was loaded.
        layers: one mapping a layer, as `Calibrated.layers` has them; empty in the same case.
    """

    config: dict[str, Any]
    provenance: dict[str, Any]
    layers: list[dict[str, Any]]


def attach(model: nn.Module, record: Record) -> None:
    """Keeps `record` on the model, which is complete. What its library would save wrongly refuses to save itself.

    Raises:
        ModelError: layers choose by a timestep that the model is not called with.
    """
    setattr(model, _ATTRIBUTE, record)
    if hasattr(model, "register_to_config"):
        from quant.api.hf_quantizer import mark_quantized

        mark_quantized(model, record.config)
    elif is_transformers(model):
        from quant.api import transformers_quantizer

        transformers_quantizer.mark_quantized(model, record.config)
    refuse_changes(model)
    follow_timesteps(model)
    order_for_group_offload(model)
    refuse_foreign_saving(model)


def forget(model: nn.Module) -> None:
    """Takes the record away from a model that has no packed layers any more."""
    vars(model).pop(_ATTRIBUTE, None)


def record_of(model: Any) -> Record:
    """The record of a quantized model.

    Raises:
        ModelError: a pipeline, or a model that was not quantized or loaded by this library.
    """
    if not isinstance(model, nn.Module):
        parts = getattr(model, "components", {})
        made = [name for name, part in parts.items() if isinstance(getattr(part, _ATTRIBUTE, None), Record)]
        name = (made or ["transformer"])[0]
        raise ModelError(
            f"quant.save writes a model, and this is a {type(model).__name__}: quant.save(pipe.{name}, DIR), or all of "
            "it by pipe.save_pretrained(DIR)"
        )
    record = getattr(model, _ATTRIBUTE, None)
    if isinstance(record, Record):
        return record
    quantizer = getattr(model, "hf_quantizer", None)  # a model that diffusers or transformers loaded
    if quantizer is None:
        raise ModelError(f"{type(model).__name__} is not quantized; use quant.quantize(...) or quant.load(...) first")
    return Record(quantizer.quantization_config.to_dict(), {}, [])
