"""The shapes pipeline and its metric networks as they are shipped: they load with stock libraries and are good.

`examples/shapes/judge.py` measures the pipeline in full; this is a short version of it.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors import safe_open
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, CLIPModel, VideoMAEForVideoClassification

from quant.eval.shapes.draw import draw
from quant.eval.shapes.judge import accuracies
from quant.eval.shapes.vocabulary import (
    ATTRIBUTES,
    ShapeClip,
    calibration_clips,
    caption,
    heldout_clips,
    judged_clips,
)


def weight_files(shapes: Path) -> list[Path]:
    return sorted([*(shapes / "model").rglob("*.safetensors"), *(shapes / "metric_networks").rglob("*.safetensors")])


def frames(videos: Tensor) -> list[list[Any]]:
    """Drawn videos [B, 3, F, H, W] in -1..1 as lists of 8-bit frames [H, W, 3], which is what users have."""
    pixels = ((videos + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    return [list(video) for video in pixels.numpy()]


def clips_of_different_looks(count: int) -> list[ShapeClip]:
    """Held-out clips no two of which agree in all that a single frame shows."""
    looks = {(clip.size, clip.colour, clip.shape, clip.background): clip for clip in heldout_clips()}
    return list(looks.values())[:count]


def test_the_files_are_small_and_in_bfloat16(shapes: Path) -> None:
    files = weight_files(shapes)
    assert len(files) == 5
    assert sum(file.stat().st_size for file in files) <= 24e6
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert {opened.get_slice(key).get_dtype() for key in opened.keys()} == {"BF16"}, file  # noqa: SIM118


def test_nothing_in_the_example_is_a_pickle(shapes: Path) -> None:
    found = [p for folder in ("model", "metric_networks") for p in (shapes / folder).rglob("*") if p.is_file()]
    assert {file.suffix for file in found} == {".json", ".safetensors"}


def test_model_index_and_records(shapes: Path) -> None:
    index = json.loads((shapes / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline"
    # transformers 4 does not know the name that transformers 5 gives this class.
    assert index["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"]
    record = json.loads((shapes / "model" / "training.json").read_text())
    assert all(record["stages"][stage]["seconds"] > 0 for stage in ("vae", "transformer", "clip", "videomae"))


def test_prompts(shapes: Path) -> None:
    for name, clips in (("calibration", calibration_clips()), ("judged", judged_clips())):
        lines = (shapes / "prompts" / f"{name}.txt").read_text().splitlines()
        assert lines == [caption(clip) for clip in clips]


def test_videos_show_what_their_prompts_say(shapes: Path) -> None:
    clips = judged_clips()[::4]
    pipeline = WanPipeline.from_pretrained(shapes / "model", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        [caption(clip) for clip in clips],
        generator=[torch.Generator().manual_seed(i) for i in range(len(clips))],
        output_type="np",
        max_sequence_length=16,
        **json.loads((shapes / "model" / "generation.json").read_text()),
    ).frames
    assert made.shape == (16, 17, 32, 32, 3)
    shares = accuracies(list(made), clips)
    assert shares["colour"] == shares["direction"] == 1.0, shares
    assert shares["shape"] >= 0.8, shares


def test_clip_finds_the_right_caption_among_32(shapes: Path) -> None:
    """Captions that differ in what a single frame shows; no frame could tell the others apart."""
    folder = shapes / "metric_networks" / "clip"
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    clips = clips_of_different_looks(32)
    assert len(clips) == 32
    images = list(itertools.chain.from_iterable(frames(draw(clips, torch.Generator().manual_seed(0)))))
    inputs = processor(text=[caption(clip) for clip in clips], images=images, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs)
    of_clips = found.image_embeds.unflatten(0, (32, 17)).mean(dim=1)
    first = (of_clips @ found.text_embeds.T).argmax(dim=1)
    assert (first == torch.arange(32)).float().mean() >= 0.8


@pytest.mark.parametrize("left_out", [0, 8, 16])
def test_videomae_names_every_attribute(shapes: Path, left_out: int) -> None:
    """With any one of the 17 frames left out."""
    folder = shapes / "metric_networks" / "videomae"
    model = VideoMAEForVideoClassification.from_pretrained(folder, dtype=torch.float32).eval()
    clips = heldout_clips()
    videos = draw(clips, torch.Generator().manual_seed(0))
    seen = [frame for frame in range(17) if frame != left_out]
    inputs = AutoImageProcessor.from_pretrained(folder)(frames(videos[:, :, seen]), return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    for attribute, values in ATTRIBUTES.items():
        columns = [model.config.label2id[f"{attribute}={value}"] for value in values]
        right = torch.tensor([values.index(getattr(clip, attribute)) for clip in clips])
        assert (logits[:, columns].argmax(dim=1) == right).float().mean() >= 0.8, attribute


def test_clip_parts_load_on_their_own(shapes: Path) -> None:
    folder = shapes / "metric_networks" / "clip"
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    ids = tokenizer(caption(heldout_clips()[0])).input_ids
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
    black = processor([torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()], return_tensors="pt").pixel_values
    assert torch.equal(black, -torch.ones(1, 3, 32, 32))
