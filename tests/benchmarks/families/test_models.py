"""The list of video denoisers is complete, and what it says of pipelines is true."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from benchmarks.families.models import MODELS, denoiser

#: Classes of that name that denoise images.
IMAGE_EDITORS = {"JoyImageEditTransformer3DModel", "JoyImageEditPlusTransformer3DModel"}


def test_no_video_denoiser_of_diffusers_is_missing() -> None:
    named = diffusers._import_structure["models"]
    video = {name for name in named if name.endswith("Transformer3DModel")} - IMAGE_EDITORS
    assert len(video) > 25
    assert video <= {model.cls for model in MODELS}


def test_names_are_unique() -> None:
    names = [name for model in MODELS for name in model.real]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["Wan 2.1 I2V 14B", "Mochi 10B", "HunyuanVideo 13B", "AnimateDiff SDXL 2.8B"])
def test_pipelines_take_the_class(name: str) -> None:
    model = denoiser(name)
    for pipeline in model.pipelines:
        parameters = inspect.signature(getattr(diffusers, pipeline).__init__).parameters
        component = parameters.get("transformer", parameters.get("unet"))
        assert component is not None
        assert model.cls in str(component.annotation)


@pytest.mark.parametrize(
    ("name", "billions"), [("Wan 2.1 T2V 14B", 14.29), ("HunyuanVideo 13B", 12.82), ("LTX-2 19B", 18.88)]
)
def test_real_sizes_are_the_published_ones(name: str, billions: float) -> None:
    model = denoiser(name).make_real(name)
    assert all(weight.is_meta for weight in model.parameters())
    assert sum(weight.numel() for weight in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
