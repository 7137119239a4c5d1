"""Every video denoiser of diffusers 0.42: the one list of them."""

from __future__ import annotations

from benchmarks.families.cogvideox import COGVIDEOX
from benchmarks.families.cosmos import COSMOS
from benchmarks.families.denoiser import Denoiser
from benchmarks.families.hunyuan import HUNYUAN
from benchmarks.families.ltx import LTX
from benchmarks.families.unets import UNETS
from benchmarks.families.wan import WAN

MODELS: tuple[Denoiser, ...] = (*WAN, *HUNYUAN, *COGVIDEOX, *LTX, *COSMOS, *UNETS)


def denoiser(name: str) -> Denoiser:
    """The one that has a published model of this name; KeyError where there is none."""
    return {real: model for model in MODELS for real in model.real}[name]
