from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil

from quant.errors import QuantError
from quant.eval.metrics.clip import prompt_consistency
from quant.eval.networks.clip import ClipScorer, load, read_preprocessing
from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip, caption

FOLDER = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks"


@pytest.fixture(scope="module")
def clip() -> ClipScorer:
    return load(str(FOLDER / "clip"))


def test_right_captions_score_higher_than_wrong_ones(clip: ClipScorer) -> None:
    shapes = [
        ShapeClip(size="large", colour="red", shape="circle", speed="slowly", direction="left", background="white"),
        ShapeClip(size="large", colour="blue", shape="square", speed="slowly", direction="up", background="black"),
        ShapeClip(size="large", colour="green", shape="triangle", speed="slowly", direction="up", background="brown"),
    ]
    videos = (draw(shapes, torch.Generator().manual_seed(0)).permute(0, 2, 3, 4, 1).numpy() + 1) / 2
    texts = [clip.text(caption(shape))[0] for shape in shapes]
    for index, video in enumerate(videos):
        frames = clip.frames(video)
        assert frames.shape == (len(video), 64)
        assert np.linalg.norm(frames, axis=1) == pytest.approx(np.ones(len(video)), abs=1e-5)
        assert int(np.argmax([prompt_consistency(frames, text) for text in texts])) == index


def test_long_prompts_are_cut_keep_their_end_token_and_are_said_to_be(clip: ClipScorer) -> None:
    words = "a large red circle moves slowly to the left "
    ids, truncated = clip.tokens(words * 20)
    assert truncated
    assert len(ids) == 77
    assert ids[-1] == clip.tokenizer.eos_token_id
    assert clip.text(words * 20)[1]
    assert not clip.text(words)[1]
    # What comes after the cut cannot count; what comes before it does.
    same, _ = clip.text(words * 20 + "blue square")
    other, _ = clip.text("blue square " + words * 20)
    assert same == pytest.approx(clip.text(words * 20)[0])
    assert abs(float(same @ other)) < 0.9999


def test_a_prompt_that_just_fits_is_whole(clip: ClipScorer) -> None:
    words = "red " * 75  # and a token at each end
    assert clip.tokens(words) == (clip.tokenizer(words)["input_ids"], False)
    assert len(clip.tokens(words)[0]) == 77 == len(clip.tokens(words + "blue")[0])
    assert clip.tokens(words + "blue")[1]


def test_a_tokenizer_that_cuts_the_end_token_off_is_refused(clip: ClipScorer) -> None:
    def tokenizer(prompt: str, truncation: bool, max_length: int | None = None, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [1, *([5] * len(prompt)), 2][:max_length]}

    odd = replace(clip, tokenizer=tokenizer)
    assert odd.tokens("a" * 75) == ([1, *([5] * 75), 2], False)
    with pytest.raises(QuantError, match="drops the end token of long prompts"):
        odd.tokens("a" * 76)


def test_it_embeds_as_transformers_does(clip: ClipScorer) -> None:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(str(FOLDER / "clip"), dtype=torch.float32).eval()
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    pixels = torch.tensor(grey / 127.5 - 1, dtype=torch.float32).permute(0, 3, 1, 2)
    prompt = "a large red circle"
    ids = torch.tensor([clip.tokens(prompt)[0]])
    with torch.inference_mode():
        found = model(input_ids=ids, pixel_values=pixels)
    assert clip.frames((grey / 255).astype(np.float32)) == pytest.approx(found.image_embeds.numpy(), abs=1e-5)
    assert clip.text(prompt)[0] == pytest.approx(found.text_embeds[0].numpy(), abs=1e-5)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize(
    ("height", "width"),
    [(301, 457), (457, 301), (97, 61), (61, 97), (224, 301), (301, 224), (224, 224), (40, 211), (2, 5)],
)
def test_pixels_are_those_of_transformers(tmp_path: Path, height: int, width: int, resample: int) -> None:
    """Down and up, wide and tall, odd sizes; noise, where a shift by one pixel or another filter shows everywhere."""
    processor = CLIPImageProcessorPil(crop_size={"height": 201, "width": 224}, resample=resample)
    processor.save_pretrained(tmp_path)
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = processor(frame, return_tensors="np")["pixel_values"][0]
    found = read_preprocessing(str(tmp_path))(frame.astype(np.float32) / np.float32(255))
    assert found.shape == expected.shape == (3, 201, 224)
    # Both round to 8 bits, so a different value is off by a step of 1 / (255 * 0.28) = 0.014 or more; rounding in
    # float32 of values below 3 stays under 1e-6.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_frames_are_rounded_to_the_nearest_of_256_and_cut_to_the_range(clip: ClipScorer) -> None:
    levels = np.array([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 1.1], dtype=np.float32)
    for level, rounded in zip(levels, [0, 0, 0, 1, 255, 255, 255], strict=True):
        found = clip.preprocessing(np.full((32, 32, 3), level, dtype=np.float32))
        assert found == pytest.approx(np.full((3, 32, 32), rounded / 127.5 - 1), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_center_crop": False}, "says do_center_crop: false"),
        ({"do_resize": False}, "says do_resize: false"),
        ({"do_normalize": False}, "says do_normalize: false"),
        ({"do_rescale": False}, "wants pictures in another range"),
        ({"resample": 1}, "wants the resampling filter 1;"),
        ({"size": {"height": 32, "width": 32}}, "has no 'shortest_edge'"),
        ({"crop_size": None}, "has no 'crop_size'"),
        ({"image_mean": 0.5}, "is not understood: 'float' object is not iterable"),
    ],
)
def test_a_preprocessing_that_is_not_done_here_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((FOLDER / "clip" / "preprocessor_config.json").read_text(encoding="utf-8"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(QuantError, match=f"^preprocessor_config.json of {tmp_path} {message}"):
        read_preprocessing(str(tmp_path))


def test_one_number_for_both_sides_as_in_old_files(tmp_path: Path) -> None:
    config = json.loads((FOLDER / "clip" / "preprocessor_config.json").read_text(encoding="utf-8"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**config, "size": 40, "crop_size": 24}))
    found = read_preprocessing(str(tmp_path))
    assert (found.edge, found.crop) == (40, (24, 24))


def test_an_empty_prompt_and_one_grey_frame_have_embeddings(clip: ClipScorer) -> None:
    assert clip.tokens("")[0] == [clip.tokenizer.bos_token_id, clip.tokenizer.eos_token_id]
    text, truncated = clip.text("")
    assert not truncated and np.linalg.norm(text) == pytest.approx(1, abs=1e-5)
    frames = clip.frames(np.full((1, 33, 47, 3), 0.5, dtype=np.float32))
    assert frames.shape == (1, 64) and np.linalg.norm(frames) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 1), (0, 8, 8, 3)])
def test_what_is_no_video_is_refused(clip: ClipScorer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a video is"):
        clip.frames(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match="not finite"):
        clip.frames(np.full((1, 8, 8, 3), np.nan, dtype=np.float32))


def test_more_frames_than_go_in_at_once_are_embedded_in_their_order(clip: ClipScorer) -> None:
    video = np.random.default_rng(0).random((19, 32, 32, 3), dtype=np.float32)
    found = clip.frames(video)
    assert found.shape == (19, 64)
    for index in (0, 15, 16, 18):
        np.testing.assert_allclose(found[index], clip.frames(video[index : index + 1])[0], rtol=0, atol=1e-5)


def test_the_conventions_name_the_weights(clip: ClipScorer) -> None:
    assert len(clip.conventions["weights_sha256"]) == 64
    assert clip.conventions["resize"] == "shorter side to 32, PIL bicubic, 32x32 from the centre"


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="is a videomae, not a clip"):
        load(str(FOLDER / "videomae"))
    with pytest.raises(QuantError, match=f"^{tmp_path} cannot be loaded"):
        load(str(tmp_path))
