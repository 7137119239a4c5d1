from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from quant.errors import QuantError
from quant.eval.metrics.clip import prompt_consistency
from quant.eval.networks.clip import ClipScorer, load
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


def test_wide_frames_are_shrunk_and_cropped_in_the_middle(clip: ClipScorer) -> None:
    frame = np.zeros((64, 128, 3), dtype=np.float32)
    frame[:, 32:96] = 1
    pixels = clip.preprocessing(frame)
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, :, 2:-2] == pytest.approx(np.ones((3, 32, 28)))


def test_the_conventions_name_the_weights(clip: ClipScorer) -> None:
    assert len(clip.conventions["weights_sha256"]) == 64
    assert clip.conventions["resize"] == "shorter side to 32, PIL bicubic, 32x32 from the centre"


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="is a videomae, not a clip"):
        load(str(FOLDER / "videomae"))
    with pytest.raises(QuantError, match="cannot be loaded as a CLIP"):
        load(str(tmp_path))
