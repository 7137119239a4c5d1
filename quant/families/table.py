"""Which family a model belongs to, and which components of a pipeline are denoisers."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from quant.families.allegro import ALLEGRO
from quant.families.base import Family
from quant.families.cogvideox import COGVIDEOX
from quant.families.cosmos import COSMOS
from quant.families.cosmos_3 import COSMOS_3
from quant.families.easyanimate import EASYANIMATE
from quant.families.generic import generic_family
from quant.families.hunyuan_video import HUNYUAN_VIDEO
from quant.families.hunyuan_video_15 import HUNYUAN_VIDEO_15
from quant.families.kandinsky import KANDINSKY
from quant.families.latte import LATTE
from quant.families.ltx import LTX
from quant.families.ltx_2 import LTX_2
from quant.families.minimax_h3 import MINIMAX_H3
from quant.families.mochi import MOCHI
from quant.families.motif import MOTIF
from quant.families.sana_video import SANA_VIDEO
from quant.families.sana_wm import SANA_WM
from quant.families.structure import down_mid_up
from quant.families.unet import UNET
from quant.families.wan import WAN
from quant.files.model_paths import DENOISERS as DENOISERS

FAMILIES: tuple[Family, ...] = (
    WAN,
    HUNYUAN_VIDEO,
    HUNYUAN_VIDEO_15,
    COGVIDEOX,
    LTX,
    LTX_2,
    MOCHI,
    ALLEGRO,
    LATTE,
    COSMOS,
    COSMOS_3,
    EASYANIMATE,
    KANDINSKY,
    MINIMAX_H3,
    MOTIF,
    SANA_VIDEO,
    SANA_WM,
    UNET,
)


def family_name(class_name: str) -> str:
    """The family of a diffusers class, "generic" for one that is not listed."""
    return next((family.name for family in FAMILIES if class_name in family.classes), "generic")


def family_of(model: nn.Module) -> Family:
    """The family of a model, from its class's name or, unlisted, from its own declarations and structure."""
    name = type(model).__name__
    listed = next((family for family in FAMILIES if name in family.classes), None)
    if listed is None:
        return generic_family(model)
    sequence = down_mid_up(model)
    return replace(listed, sequence=sequence) if sequence else listed
