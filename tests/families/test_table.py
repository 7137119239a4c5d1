from __future__ import annotations

import inspect
from dataclasses import replace

import diffusers
import pytest
from torch import nn

from quant.families.table import DENOISERS, FAMILIES, family_name, family_of
from quant.families.unet import UNET
from quant.families.wan import WAN
from tests.tiny_models import ModelMaker


@pytest.mark.parametrize("class_name", ["WanTransformer3DModel", "WanVACETransformer3DModel"])
def test_a_listed_class_has_its_family(make_model: ModelMaker, class_name: str) -> None:
    assert family_of(make_model(class_name)) is WAN
    assert family_name(class_name) == "wan"


def test_an_unlisted_class_has_a_family_of_its_own_making() -> None:
    family = family_of(nn.ModuleDict())
    assert (family.name, family.classes) == ("generic", ("ModuleDict",))
    assert family_name("FluxTransformer2DModel") == "generic"


@pytest.mark.parametrize("class_name", ["UNet3DConditionModel", "UNetSpatioTemporalConditionModel"])
def test_a_listed_u_net_has_its_blocks_in_the_order_of_the_model(make_model: ModelMaker, class_name: str) -> None:
    family = family_of(make_model(class_name))
    assert family == replace(UNET, sequence=family.sequence)
    assert family.sequence == ("down_blocks.0.", "down_blocks.1.", "mid_block.", "up_blocks.0.", "up_blocks.1.")


def test_a_plain_module_has_a_family() -> None:
    assert family_of(nn.Sequential(nn.Linear(2, 2))).name == "generic"


def test_every_listed_class_is_a_model_of_diffusers_and_listed_once() -> None:
    names = [name for family in FAMILIES for name in family.classes]
    assert len(names) == len(set(names)) > 0
    for name in names:
        assert issubclass(getattr(diffusers, name), nn.Module)


@pytest.mark.parametrize(
    ("pipeline", "denoisers"),
    [
        ("WanPipeline", ["transformer", "transformer_2"]),
        ("WanVACEPipeline", ["transformer", "transformer_2"]),
        ("LTXPipeline", ["transformer"]),
        ("CogVideoXPipeline", ["transformer"]),
        ("HunyuanVideoPipeline", ["transformer"]),
        ("TextToVideoSDPipeline", ["unet"]),
        ("StableVideoDiffusionPipeline", ["unet"]),
    ],
)
def test_denoisers_are_the_components_that_pipelines_have(pipeline: str, denoisers: list[str]) -> None:
    components = inspect.signature(getattr(diffusers, pipeline).__init__).parameters
    assert [name for name in DENOISERS if name in components] == denoisers
