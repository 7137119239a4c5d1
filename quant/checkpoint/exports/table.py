"""Every export, the one that most readers know first, and which one a component's is: the one list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quant.checkpoint.config import FORMAT_VERSION, stored_dtype
from quant.checkpoint.exports.base import Export
from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.checkpoint.exports.ours import Ours
from quant.errors import CheckpointError
from quant.formats.layer import LayerFormat
from quant.text import shown

EXPORTS: tuple[Export, ...] = (CompressedTensors(), Ours())


def quant_methods() -> tuple[str, ...]:
    """Every `quant_method` that this library writes and reads."""
    return tuple(each.name for each in EXPORTS)


def build_config(
    layers: Mapping[str, LayerFormat],
    kept: Iterable[str],
    dtype: str,
    recipe: Mapping[str, str],
    *,
    standard: bool = True,
) -> dict[str, Any]:
    """The quantization_config of a component, by the first export that takes its layers.

    Args:
        layers: quantized layers by name.
        kept: names of the Linears that are not quantized.
        dtype: torch dtype name of tensors that are not packed, such as "bfloat16".
        recipe: `name` and `sha256` of the recipe.
        standard: are all layers what other readers take them for?
    """
    export = next(each for each in EXPORTS if each.takes(layers, standard=standard))
    common = {"format_version": FORMAT_VERSION, "dtype": dtype, "recipe": dict(recipe)}
    return {"quant_method": export.name, **export.config(layers, kept), **common}


def stored_layers(config: Mapping[str, Any], linears: Iterable[str], where: str) -> dict[str, LayerFormat]:
    """Which of a model's layers are stored quantized, and how.

    Args:
        config: a quantization_config.
        linears: names of all Linears of the model; convolutions are those that the config names.
        where: the file, for errors.

    Raises:
        CheckpointError: another method, an unknown version, a scheme this release does not run, or a layer that
            the model has not.
    """
    export = export_of(config, where)
    stored_dtype(config, where)
    return export.layers(config, linears, where)


def export_of(config: Mapping[str, Any], where: str) -> Export:
    """The export that a config claims. Raises CheckpointError unless this release reads its method and version."""
    method = config.get("quant_method")
    export = next((each for each in EXPORTS if each.name == method), None)
    if export is None:
        raise CheckpointError(
            f"{where}: quant_method is {shown(method)}; this library reads {' and '.join(quant_methods())}. Load it "
            "with the from_pretrained of diffusers (or transformers, where that made it) and the library of that name "
            "installed; FP8 of ModelOpt becomes such a checkpoint by quant export --to compressed-tensors"
        )
    version = config.get("format_version", None if export.versioned else FORMAT_VERSION)
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(f"{where}: format_version is {shown(version)}; this release reads {FORMAT_VERSION}")
    return export
