"""`quant.load(..., fused=True)`: the blocks of a loaded model become blocks of fused ops."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from quant.errors import CheckpointError, ModelError, QuantWarning
from quant.families.base import Family
from quant.families.table import FAMILIES, family_of
from quant.layers.fused.part import FUSED, FUSED_TO_CODES
from quant.layers.replace import quantized_layers, replace

#: The key of a quantization_config that asks for it.
FUSED_KEY = "fused"


def wants_fusing(config: Mapping[str, Any], where: str) -> bool:
    """Does a quantization_config ask for fused blocks? Raises CheckpointError for what is neither true nor false."""
    wanted = config.get(FUSED_KEY, False)
    if not isinstance(wanted, bool):
        raise CheckpointError(f"{where}: {FUSED_KEY} must be true or false, got {wanted!r}")
    return wanted


def with_fusing(config: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """The config, asking for fused blocks or not, so that a model is loaded again as it was saved."""
    rest = {key: value for key, value in config.items() if key != FUSED_KEY}
    return {**rest, FUSED_KEY: True} if wanted else rest


def fuse(model: nn.Module) -> nn.Module:
    """Puts fused blocks in the places of a quantized model's blocks.

    Args:
        model: loaded or quantized in memory; changed in place, and not at all where it is refused. Its state keeps its
            names, dtypes and bytes.

    Returns:
        `model`. Each fused block's `parts` say what of it is fused, or why not; one warning says it of all.

    Raises:
        ModelError: a family without a fused block; a block with a hook, an adapter or an attention processor of someone
            else; a model of which nothing is quantized, or that is fused already.
    """
    implementation = block_module(model)
    family = family_of(model)
    layers = quantized_layers(model)
    if not layers:
        raise ModelError(f"{type(model).__name__}: no layer is quantized, so there is nothing to fuse")
    places = _places(model, family)
    for name in places:
        implementation.check_block(model.get_submodule(name), name)
    states: dict[str, str] = {}
    classes: dict[str, str] = {}
    for name in places:
        block = model.get_submodule(name)
        fused = implementation.fuse_block(block)
        replace(model, name, fused)
        classes[type(block).__name__] = type(fused).__name__
        states |= {f"{name}.{part}": state for part, state in fused.parts.items()}
    _rename_classes(model, classes)
    refused = {part: state for part, state in states.items() if state not in (FUSED, FUSED_TO_CODES)}
    if refused:
        first, why = next(iter(refused.items()))
        warnings.warn(
            f"{len(refused)} of {len(states)} parts of the blocks are not fused, first {first}: {why}; "
            f"see the blocks' 'parts' for the others",
            QuantWarning,
            stacklevel=2,
        )
    return model


def block_module(model: nn.Module) -> Any:
    """The module with `check_block` and `fuse_block` for a model's family. Raises ModelError where there is none."""
    family = family_of(model)
    name = family.fused_block if type(model).__name__ in family.fused_classes else None
    if name is None:
        have = ", ".join(cls for family in FAMILIES for cls in family.fused_classes)
        raise ModelError(f"{type(model).__name__} has no fused blocks; these have: {have}")
    return import_module(f"quant.layers.fused.{name}")


def _places(model: nn.Module, family: Family) -> list[str]:
    """Names of the family's blocks."""
    assert family.blocks is not None
    return [name for name, _ in model.named_modules() if re.fullmatch(family.blocks, f"{name}.")]


def _rename_classes(model: nn.Module, classes: Mapping[str, str]) -> None:
    """What diffusers finds a model's blocks by: to compile one for all, and to keep each on one device."""
    for attribute in ("_repeated_blocks", "_no_split_modules"):
        names = getattr(model, attribute, None)
        if names:
            setattr(model, attribute, [classes.get(name, name) for name in names])
