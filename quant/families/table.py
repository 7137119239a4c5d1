"""Which family a model belongs to, and which components of a pipeline are denoisers."""

from __future__ import annotations

from torch import nn

from quant.families.base import Family
from quant.families.generic import generic_family
from quant.families.wan import WAN
from quant.files.model_paths import DENOISERS as DENOISERS

FAMILIES: tuple[Family, ...] = (WAN,)


def family_name(class_name: str) -> str:
    """The family of a diffusers class, "generic" for one that is not listed."""
    return next((family.name for family in FAMILIES if class_name in family.classes), "generic")


def family_of(model: nn.Module) -> Family:
    """The family of a model, from its class's name or, unlisted, from its own declarations."""
    name = type(model).__name__
    return next((family for family in FAMILIES if name in family.classes), None) or generic_family(model)
