from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import WanImageToVideoPipeline, WanPipeline

from quant.errors import ModelError
from quant.pipelines.settings import FILE_NAME, GenerationSettings

EVERY: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "num_frames": 17,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "max_sequence_length": 16,
}


class Plain:
    """Called without frames or text length."""

    def __call__(self, prompt: str, height: int = 8, width: int = 8, guidance_scale: float = 1.0) -> None: ...


def _written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    return folder


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    settings = GenerationSettings.read(_written(tmp_path, json.dumps(EVERY)))
    assert settings.given() == EVERY


@pytest.mark.parametrize("text", ["{}", '{"height": null}'])
def test_what_is_absent_or_null_is_left_to_the_pipeline(tmp_path: Path, text: str) -> None:
    assert GenerationSettings.read(_written(tmp_path, text)).given() == {}


def test_a_folder_without_the_file_gives_no_settings(tmp_path: Path) -> None:
    assert GenerationSettings.read(str(tmp_path)) == GenerationSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged: "),
        ("", "damaged: "),
        ("[1]", "damaged: not a JSON object"),
        ('"height"', "damaged: not a JSON object"),
        ('{"sigmas": {"a": 1}}', "generation setting 'sigmas': must be a number, text, true or false, or a list of"),
        (
            '{"strength": Infinity}',
            "generation setting 'strength': must be a number, text, true or false, or a",
        ),
        ('{"generator": 1}', "generation setting 'generator': is set by this program"),
        ('{"height": 3.0}', "generation setting 'height': must be a positive whole number, got 3.0"),
        ('{"guidance_scale": NaN}', "generation setting 'guidance_scale': must be a number of at least 0, got nan"),
        ('{"guidance_scale": [' + "1," * 9000 + "1]}", "generation setting 'guidance_scale': must be a number of at"),
        ("[" * 100_000, "damaged: nested too deeply"),
    ],
)
def test_a_file_that_is_no_settings_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        GenerationSettings.read(_written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / FILE_NAME}: {message}")


def test_bytes_that_are_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError, match="damaged: "):
        GenerationSettings.read(tmp_path)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "guidance_scale"])
@pytest.mark.parametrize("value", [0, -1, 8.0, True, "8", 2**31])
def test_a_count_must_be_a_positive_whole_number(name: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"'{name}': must be a positive whole number, got {value!r}"):
        GenerationSettings(**{name: value})


@pytest.mark.parametrize("value", [-0.5, True, "3", float("nan"), float("inf")])
def test_guidance_must_be_a_number_from_zero(value: Any) -> None:
    with pytest.raises(ModelError, match=f"'guidance_scale': must be a number of at least 0, got {value!r}"):
        GenerationSettings(guidance_scale=value)


@pytest.mark.parametrize("value", [0, 0.0, 1, 7.5])
def test_guidance_may_be_off(value: float) -> None:
    assert GenerationSettings(guidance_scale=value).given() == {"guidance_scale": value}


def test_overrides_replace_what_they_name_and_nothing_else() -> None:
    settings = GenerationSettings(height=32, guidance_scale=3.0)
    merged = settings.merged(height=64, width=16, num_frames=None, guidance_scale=0.0)
    assert merged.given() == {"height": 64, "width": 16, "guidance_scale": 0.0}
    assert settings.given() == {"height": 32, "guidance_scale": 3.0}


def test_overrides_are_checked_too() -> None:
    with pytest.raises(ModelError, match="'height'"):
        GenerationSettings().merged(height=-1)


def test_every_setting_is_an_argument_of_a_real_pipeline() -> None:
    pipe = WanPipeline.__new__(WanPipeline)
    assert GenerationSettings(**EVERY).for_pipeline(pipe) == EVERY


def test_a_pipeline_is_given_what_it_takes() -> None:
    assert GenerationSettings(height=16).for_pipeline(Plain()) == {"height": 16}


def test_a_setting_that_a_pipeline_does_not_take_is_an_error() -> None:
    with pytest.raises(ModelError, match="Plain takes no 'num_frames'"):
        GenerationSettings(height=16, num_frames=5).for_pipeline(Plain())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"height": 24}, "height 24 is not a multiple of 16, which WanPipeline needs"),
        ({"width": 40}, "width 40 is not a multiple of 16, which WanPipeline needs"),
        ({"num_frames": 16}, "16 frames are not a multiple of 4 plus one, which WanPipeline needs"),
        ({"height": 32, "width": 16, "num_frames": 17}, None),
    ],
)
def test_sizes_that_a_pipeline_would_round_are_refused(settings: dict[str, int], says: str | None) -> None:
    """WanPipeline rounds them itself, and says so in a log only."""
    pipe = _wan_pipeline()
    if says is None:
        assert GenerationSettings(**settings).for_pipeline(pipe) == settings
        return
    with pytest.raises(ModelError, match=says):
        GenerationSettings(**settings).for_pipeline(pipe)


def _wan_pipeline() -> WanPipeline:
    class Config:
        patch_size = (1, 2, 2)

    class Denoiser:
        config = Config

    pipe = object.__new__(WanPipeline)
    for name, value in (("transformer", Denoiser), ("vae_scale_factor_spatial", 8), ("vae_scale_factor_temporal", 4)):
        object.__setattr__(pipe, name, value)
    return pipe


class Framed(Plain):
    vae_scale_factor_temporal = 4


def _takes(frames: str) -> type:
    """A pipeline whose call names and defaults its frames so."""
    scope: dict[str, Any] = {}
    exec(f"class Made(Base):\n    def __call__(self, {frames}): ...", {"Base": Framed}, scope)
    kind = scope["Made"]
    assert isinstance(kind, type)
    return kind


@pytest.mark.parametrize(
    ("frames", "passed"),
    [
        ("num_frames=81", "num_frames"),
        ("video_length=16", "video_length"),
        ("frames=81", "frames"),
        ("video=None", None),
    ],
)
def test_frames_are_passed_under_the_pipelines_own_name_or_cut_its_video(frames: str, passed: str | None) -> None:
    found = GenerationSettings(num_frames=17).for_pipeline(_takes(frames)())
    assert found == ({} if passed is None else {passed: 17})


@pytest.mark.parametrize("frames", ["num_frames=132", "num_frames=None", "video_length=16"])
def test_a_rule_that_the_pipelines_own_default_breaks_is_none(frames: str) -> None:
    """Helios makes 132 frames, Allegro 88 and names no default, Latte 16."""
    name = frames.partition("=")[0]
    assert GenerationSettings(num_frames=88).for_pipeline(_takes(frames)()) == {name: 88}
    with pytest.raises(ModelError, match="88 frames are not a multiple of 4 plus one"):
        GenerationSettings(num_frames=88).for_pipeline(_takes("frames=81")())


def test_every_argument_of_a_call_is_a_setting_but_files_and_what_is_set_here() -> None:
    pipe = WanPipeline.__new__(WanPipeline)
    given = {"guidance_scale": 4.0, "guidance_scale_2": 3.0, "negative_prompt": "blurry"}
    assert GenerationSettings(**given).for_pipeline(pipe) == given
    assert list(GenerationSettings(strength=0.5, sigmas=[1.0, 0.5], width=16, height=8).given()) == [
        "height",
        "width",
        "sigmas",
        "strength",
    ]
    with pytest.raises(ModelError, match="'image' of WanImageToVideoPipeline is an image: give it in a table"):
        GenerationSettings(image="a.png").for_pipeline(WanImageToVideoPipeline.__new__(WanImageToVideoPipeline))


def test_a_default_is_what_the_call_has() -> None:
    class Pipe:
        def __call__(self, prompt: str, height: int = 480, width: int | None = None) -> None: ...

    found = {name: GenerationSettings.default(Pipe, name) for name in ("prompt", "height", "width", "num_frames")}
    assert found == {"prompt": None, "height": 480, "width": None, "num_frames": None}
