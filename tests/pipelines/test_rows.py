"""Tables of inputs against calls: what is read, resized, passed on and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from quant.errors import CalibrationError
from quant.pipelines.arguments import call_arguments, class_name
from quant.pipelines.rows import Row, call_of, read_rows
from quant.pipelines.running import run_rows
from quant.pipelines.settings import GenerationSettings
from tests import tiny_pipelines


class Pipe:
    """An image-to-video pipeline with a video and a tensor, too."""

    def __call__(
        self,
        image: Image.Image,
        prompt: str = "",
        video: list[Image.Image] | None = None,
        mask_video: torch.FloatTensor | None = None,
        reference_images: list[Image.Image] | None = None,
        image_embeds: torch.Tensor | None = None,
        strength: float = 1.0,
        height: int = 16,
        width: int = 8,
        num_frames: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None: ...


def _table(folder: Path, *rows: Any) -> Path:
    tiny_pipelines.media(folder)
    path = folder / "inputs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def _read(source: Any, kind: type = Pipe, **settings: Any) -> list[Row]:
    return read_rows(source, call_arguments(kind), class_name(kind), settings=GenerationSettings(**settings))


def _call(source: Any, **settings: Any) -> dict[str, Any]:
    return call_of(_read(source, **settings)[0], Pipe(), GenerationSettings(**settings))


def test_files_lie_by_the_table_and_are_read_in_the_calls_size(tmp_path: Path) -> None:
    row = {
        "image": "picture.png",
        "caption": "a fox ",
        "video": "clip.mp4",
        "strength": 0.5,
        "reference_images": ["picture.png"],
    }
    call = _call(_table(tmp_path, row), num_frames=3)
    assert (call["prompt"], call["strength"], call["num_frames"]) == ("a fox", 0.5, 3)
    assert call["image"].size == (8, 16) and call["image"].mode == "RGB"
    assert [each.size for each in call["video"]] == [(8, 16)] * 3
    assert [each.size for each in call["reference_images"]] == [(8, 16)]


def test_a_rows_own_size_wins_and_pixels_are_the_files(tmp_path: Path) -> None:
    row = {"image": "picture.png", "video": "clip.mp4", "height": 24, "width": 40}
    call = _call(_table(tmp_path, row), height=8)
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3), dtype=np.uint8)
    assert (call["height"], call["width"]) == (24, 40)
    assert np.array_equal(np.asarray(call["image"]), frames[0])
    assert np.array_equal(np.stack([np.asarray(each) for each in call["video"]]), frames)


def test_a_folder_is_a_video_and_a_batched_mask_one_channel(tmp_path: Path) -> None:
    mask = _call(_table(tmp_path, {"image": "picture.png", "mask_video": "masks"}))["mask_video"]
    assert mask.shape == (1, 1, 5, 16, 8)
    assert mask.amax((0, 1, 3, 4)).tolist() == [0, 0, 255, 255, 255]


def test_a_tensor_is_read_from_safetensors(tmp_path: Path) -> None:
    save_file({"x": torch.arange(4.0)}, tmp_path / "e.safetensors")
    call = _call(_table(tmp_path, {"image": "picture.png", "image_embeds": "e.safetensors"}))
    assert torch.equal(call["image_embeds"], torch.arange(4.0))


def test_values_in_memory_are_passed_as_they_are() -> None:
    picture = Image.new("RGB", (9, 9))
    (row,) = _read([{"image": picture, "prompt": "a"}])
    assert call_of(row, Pipe(), GenerationSettings())["image"] is picture
    other = Row(1, {"image": Image.new("RGB", (9, 9), "red"), "prompt": "a"})
    assert row.plain()["image"]["Image"] == [9, 9] and row.plain() != other.plain()


def test_a_csv_leaves_out_empty_cells(tmp_path: Path) -> None:
    tiny_pipelines.media(tmp_path)
    (tmp_path / "i.csv").write_text("image,prompt,strength\npicture.png,a,\npicture.png,b,0.25\n")
    rows = _read(tmp_path / "i.csv")
    assert ["strength" in row.values for row in rows] == [False, True]
    assert rows[1].values["strength"] == 0.25


def test_what_is_recorded_of_a_row_has_its_files_by_hash(tmp_path: Path) -> None:
    (row,) = _read(_table(tmp_path, {"image": "picture.png", "video": "masks"}))
    plain = row.plain()
    assert plain["image"]["file"] == "picture.png" and len(plain["image"]["sha256"]) == 64
    before = plain["video"]["sha256"]
    Image.new("L", (40, 24), 9).save(tmp_path / "masks" / "0.png")
    assert row.plain()["video"]["sha256"] != before
    assert str(row) == "row 1 ('picture.png, masks')"
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"image": "picture.png", "foo": 1},
            "Pipe takes no 'foo'; its call takes image (required), prompt, video",
        ),
        ({"prompt": "a"}, "row 1: Pipe needs 'image': give a table with that column, --inputs FILE"),
        ({"image": "no.png"}, "no.png: no such file"),
        ({"image": 3}, "row 1: 'image' is an image: name a file, got 3"),
        ({"image": "picture.png", "prompt": 3}, "row 1: 'prompt' must be text, got 3"),
        ({"image": "picture.png", "strength": {"a": 1}}, "row 1: generation setting 'strength': must be a number"),
        ({"image": "picture.png", "generator": 3}, "row 1: Pipe takes no 'generator'"),
        ({"image": "empty"}, "empty: a folder without pictures"),
    ],
)
def test_a_row_that_does_not_fit_is_named_before_anything_runs(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    (tmp_path / "empty").mkdir()
    path = _table(tmp_path, row)
    with pytest.raises(CalibrationError) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}: row 1: ") and says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"image": "clip.mp4"}, "clip.mp4: is no picture that PIL reads"),
        ({"image": "picture.png", "video": "text.mp4"}, "text.mp4: cannot be decoded"),
        ({"image": "picture.png", "image_embeds": "picture.png"}, "picture.png: 'image_embeds' is a tensor, read from"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CalibrationError, match=f"^{says}"):
        _call(_table(tmp_path, row))


def test_what_only_looks_like_an_address_is_a_path(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"file:/etc/hostname: no such file"):
        _read(_table(tmp_path, {"image": "file:///etc/hostname"}))


def test_conditions_become_the_pipelines_records(tmp_path: Path) -> None:
    from diffusers import LTXConditionPipeline

    path = tiny_pipelines.table("conditions", tmp_path, 1)
    (row,) = _read(path, LTXConditionPipeline)
    pipe = LTXConditionPipeline.__new__(LTXConditionPipeline)
    first, second = call_of(row, pipe, GenerationSettings(height=32, width=32))["conditions"]
    assert type(first).__name__ == "LTXVideoCondition" and first.image.size == (32, 32)
    assert len(second.video) == 5 and second.frame_index == 8
    path.write_text(json.dumps({"prompt": "a", "conditions": {"picture": "picture.png"}}))
    with pytest.raises(CalibrationError, match=r"'conditions': has no 'picture'; it takes image, video, frame_index"):
        _read(path, LTXConditionPipeline)


@pytest.mark.parametrize("name", tiny_pipelines.KINDS)
def test_every_kind_of_pipeline_runs_on_its_table(tmp_path: Path, name: str) -> None:
    pipe, settings = tiny_pipelines.make(name), GenerationSettings(**tiny_pipelines.KINDS[name].settings)
    rows = read_rows(tiny_pipelines.table(name, tmp_path, 1), call_arguments(pipe), class_name(pipe), settings=settings)
    denoiser = next(pipe.components[each] for each in ("transformer", "unet") if each in pipe.components)
    assert isinstance(denoiser, nn.Module)
    calls: list[None] = []
    denoiser.register_forward_pre_hook(lambda module, args: calls.append(None))
    run_rows(pipe, rows, settings, progress=False)
    assert calls


def test_what_a_pipeline_raises_is_one_line_with_its_name_and_the_row(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipe = tiny_pipelines.make("modular")
    settings = GenerationSettings(**tiny_pipelines.KINDS["modular"].settings, sigmas=[1.0])
    rows = read_rows([{"prompt": "a red fox"}], call_arguments(pipe), class_name(pipe))
    pipe.transformer.forward = lambda *args, **kwargs: 1 / 0
    with pytest.raises(CalibrationError, match=r"^WanModularPipeline fails on row 1 \('a red fox'\): division by"):
        run_rows(pipe, rows, settings, progress=False)
    assert "Traceback" not in capfd.readouterr().err
