"""Videos of tiny pipelines, written, read back, and gone on with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import quant
from quant.errors import QuantError
from quant.files.video_files import read_words, to_bytes, to_words
from quant.files.videos import Frames, read_video
from quant.pipelines.making import make_video
from tests import tiny_pipelines


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-video pipeline."""
    return tiny_pipelines.save("text", tmp_path_factory.mktemp("text"))


def generate(model: Path, out: Path, **how: Any) -> quant.Generated:
    return quant.generate(model, out, **{"dtype": torch.float32, "device": "cpu", "progress": False, **how})


def made_by_diffusers(model: Path, seed: int, **call: Any) -> Frames:
    """What diffusers alone makes of a folder, [F, H, W, 3]."""
    pipe = DiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    found: Frames = pipe(**call, generator=torch.Generator().manual_seed(seed), output_type="np").frames[0]
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_holds_what_the_pipeline_gives(text: Path, tmp_path: Path) -> None:
    settings = tiny_pipelines.KINDS["text"].settings
    expected = to_words(made_by_diffusers(text, 7, prompt="a red fox", **settings))
    (clip,) = generate(text, tmp_path / "a.mkv", prompt="a red fox", seed=7).clips
    assert np.array_equal(read_words(tmp_path / "a.mkv"), expected)
    assert (clip.frames, clip.height, clip.width, clip.fps) == (*expected.shape[:3], 16)
    generate(text, tmp_path / "a.mp4", prompt="a red fox", seed=7, lossless=True, fps=12.5)
    assert np.array_equal(read_video(tmp_path / "a.mp4"), to_bytes(expected))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == Fraction(25, 2)
    assert names(tmp_path) == ["a.mkv", "a.mp4"]


def test_rows_of_videos_become_numbered_files(tmp_path: Path) -> None:
    model, clip = tiny_pipelines.save("video", tmp_path), tmp_path / "clip.mp4"
    table = tiny_pipelines.table("video", tmp_path)
    made = generate(model, tmp_path / "out", inputs=table, lossless=True, seed=3)
    assert names(tmp_path / "out") == ["0001.mkv", "0002.mkv"] and not made.kept
    pictures = [Image.fromarray(frame).resize((16, 16), Image.Resampling.LANCZOS) for frame in read_video(clip)]
    call = {**tiny_pipelines.KINDS["video"].settings, **tiny_pipelines.KINDS["video"].row, "video": pictures}
    del call["num_frames"]  # which is how many frames are read
    assert np.array_equal(read_words(tmp_path / "out" / "0002.mkv"), to_words(made_by_diffusers(model, 4, **call)))


def test_frames_a_second_are_those_that_the_model_is_asked_for(tmp_path: Path) -> None:
    model = tiny_pipelines.save("condition", tmp_path)
    table = tiny_pipelines.table("condition", tmp_path, rows=1)
    assert generate(model, tmp_path / "out", inputs=table).clips[0].fps == 12
    with av.open(str(tmp_path / "out" / "0001.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == 12 and stream.codec_context.pix_fmt == "yuv420p"


def test_a_table_goes_on_with_the_row_that_it_was_at(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, out = ["a red fox", "snow", "a bird"], tmp_path / "out"
    whole = generate(text, tmp_path / "whole", prompts=prompts)
    calls: list[str] = []

    def stopping(*args: Any, **named: Any) -> Frames:
        calls.append(named["name"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make_video(*args, **named)

    monkeypatch.setattr("quant.api.generate.make_video", stopping)
    with pytest.raises(KeyboardInterrupt, match="interrupted; 1 of 3 videos are made, and the same command goes on"):
        generate(text, out, prompts=prompts)
    assert names(out) == ["0001.mp4"] and names(tmp_path) == ["out", "whole"]
    (out / ".0002.mp4.01234567.part").write_bytes(b"half")  # as SIGKILL leaves it
    again = generate(text, out, prompts=prompts)
    assert [path.name for path in again.kept] == ["0001.mp4"] and calls == ["a red fox", "snow", "snow", "a bird"]
    assert names(out) == ["0001.mp4", "0002.mp4", "0003.mp4"]
    assert [(out / clip.path.name).read_bytes() for clip in whole.clips] == [
        path.read_bytes() for path in sorted(out.iterdir())
    ]
    assert not generate(text, out, prompts=prompts).clips and len(calls) == 4


def test_a_file_of_another_request_is_refused_without_force(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(text, out, prompts=["a red fox", "snow"])
    before = (out / "0002.mp4").read_bytes()
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"dtype": torch.bfloat16},
        {"fps": 8},
        {"settings": quant.GenerationSettings(num_inference_steps=1)},
    ]
    for other in others:
        with pytest.raises(QuantError, match=r"0001\.mp4: exists, and is of another request; give --force"):
            generate(text, out, prompts=["a red fox", "snow"], **other)
    with pytest.raises(QuantError, match=r"0002\.mp4: exists, and is of another request"):
        generate(text, out, prompts=["a red fox", "a bird"])
    forced = generate(text, out, prompts=["a red fox", "a bird"], force=True)
    assert [clip.path.name for clip in forced.clips] == ["0002.mp4"] and (out / "0002.mp4").read_bytes() != before


def test_a_model_that_was_written_anew_is_another_request(tmp_path: Path) -> None:
    model = tiny_pipelines.save("text", tmp_path)
    generate(model, tmp_path / "out", prompts=["snow"])
    weights = next((model / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes())
    with pytest.raises(QuantError, match="is of another request"):
        generate(model, tmp_path / "out", prompts=["snow"])


@pytest.mark.parametrize(
    ("out", "how", "words"),
    [
        ("a.mp4", {}, "give one of a prompt, --prompts FILE and --inputs FILE"),
        ("a.mp4", {"prompt": "a", "prompts": ["a"]}, "give one of a prompt"),
        ("a.mp4", {"prompts": ["a"]}, "many videos are a folder of numbered files"),
        ("a.gif", {"prompt": "a"}, r"is to be a video; name it \.mp4 or \.mkv"),
        ("none/a.mp4", {"prompt": "a"}, "none: no such folder"),
        ("none/a", {"prompts": ["a"]}, "none: no such folder"),
        ("file", {"prompts": ["a"]}, "file: is a file; give --out a folder"),
        ("there.mp4", {"prompt": "a"}, r"there\.mp4: exists; give --force to replace it, or another --out"),
        ("folder.mp4", {"prompt": "a", "force": True}, "is no file that could be replaced"),
        ("a.mp4", {"prompt": "a", "settings": quant.GenerationSettings(strength=0.5)}, "takes no 'strength'"),
        ("a.mp4", {"prompt": "a", "settings": quant.GenerationSettings(height=17)}, "is not a multiple of"),
        ("a.mp4", {"prompt": "a", "seed": -1}, "seed: must be a whole number"),
        ("a.mp4", {"prompt": "a", "fps": float("nan")}, "fps: must be a number above 0"),
        ("a.mp4", {"prompt": "a", "device": "nowhere"}, "device 'nowhere'"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    text: Path, tmp_path: Path, out: str, how: dict[str, Any], words: str
) -> None:
    (tmp_path / "there.mp4").write_bytes(b"mine")
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    before = names(tmp_path)
    with pytest.raises(QuantError, match=words):
        generate(text, tmp_path / out, **how)
    assert names(tmp_path) == before and (tmp_path / "there.mp4").read_bytes() == b"mine"


def test_nothing_is_written_into_a_model(text: Path, tmp_path: Path) -> None:
    quant.convert(text, tmp_path / "part", recipe="fp8-dynamic", progress=False)
    for model, base in ((text, None), (tmp_path / "part", text)):
        for place in (text, model):
            with pytest.raises(QuantError, match="lies in the original"):
                generate(model, place / "a.mp4", prompt="snow", base=base)


def test_a_pipeline_that_fails_says_on_what(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **named: Any) -> Frames:
        raise RuntimeError("no such frame")

    monkeypatch.setattr("quant.api.generate.make_video", broken)
    with pytest.raises(QuantError, match=r"^WanPipeline fails on row 1 \('snow'\): no such frame$"):
        generate(text, tmp_path / "a.mp4", prompt="snow")
    assert names(tmp_path) == []
