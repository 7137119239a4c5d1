"""The gen1 pipeline as it is shipped: stock diffusers classes load it, and it does what it says.

`examples/gen1/judge.py` measures it in full; this is a short version of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet3DConditionModel
from safetensors import safe_open
from torch import nn

from quant.eval.shapes.judge import accuracies
from quant.eval.shapes.vocabulary import calibration_clips, caption, judged_clips
from tests.examples.networks import Training


@pytest.fixture
def judge(gen1_script: Training) -> ModuleType:
    return gen1_script("judge")


@pytest.fixture
def pipelines(gen1: Path, judge: ModuleType) -> Any:
    return judge.Pipelines.load(gen1 / "model", gen1 / "editor")


def settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "generation.json").read_text())
    return found


def test_the_files_are_small_and_in_bfloat16(gen1: Path) -> None:
    files = sorted((gen1 / "model").rglob("*.safetensors"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) <= 16e6
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert {opened.get_slice(key).get_dtype() for key in opened.keys()} == {"BF16"}, file  # noqa: SIM118


def test_convolutions_hold_half_of_the_unet(gen1: Path) -> None:
    unet = UNet3DConditionModel.from_pretrained(gen1 / "model" / "unet")
    convolutions = [module for module in unet.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    held = sum(p.numel() for module in convolutions for p in module.parameters())
    assert 0.45 < held / sum(p.numel() for p in unet.parameters()) < 0.55


def test_both_folders_open_as_what_they_say(gen1: Path) -> None:
    for folder, name in (("model", "TextToVideoSDPipeline"), ("editor", "VideoToVideoSDPipeline")):
        assert type(DiffusionPipeline.from_pretrained(gen1 / folder)).__name__ == name
    record = json.loads((gen1 / "model" / "training.json").read_text())
    assert all(record["stages"][stage]["core_seconds"] > 0 for stage in ("vae", "latents", "unet"))
    assert sum(stage["core_seconds"] for stage in record["stages"].values()) <= 2 * 3 * 3600


def test_prompts(gen1: Path) -> None:
    for name, clips in (("calibration", calibration_clips()), ("judged", judged_clips())):
        lines = (gen1 / "prompts" / f"{name}.txt").read_text().splitlines()
        assert lines == [caption(clip) for clip in clips]


def test_videos_from_prompts_have_the_looks_that_those_say(gen1: Path, judge: ModuleType, pipelines: Any) -> None:
    """How they move was not learned, and shapes in part: README.md of the example has the figures."""
    clips = judged_clips()[::8]
    made = judge.generate(pipelines, clips, 0, settings(gen1 / "model"))
    assert made.shape == (8, 9, 32, 32, 3)
    shares = accuracies(list(made), clips)
    assert min(shares[name] for name in ("colour", "size", "background")) >= 0.85, shares


def test_edits_show_what_their_prompts_say_and_move_as_their_sources(
    gen1: Path, stage: Training, judge: ModuleType, pipelines: Any
) -> None:
    edits = stage("edits").judged_edits()[::8]
    sources = np.concatenate([judge.pixels(stage("edits").film_edit(edit)) for edit in edits])
    wanted = [edit.edit for edit in edits]
    made = judge.edit(pipelines, sources, [caption(clip) for clip in wanted], 0, settings(gen1 / "editor"))
    shares = accuracies(list(made), wanted) | judge.motion(made, sources)
    assert min(shares[name] for name in ("colour", "shape", "direction", "motion_kept")) >= 0.85, shares


def test_the_editor_without_noise_gives_the_source_back(judge: ModuleType, stage: Training, pipelines: Any) -> None:
    edit = stage("edits").judged_edits()[0]
    source = judge.pixels(stage("edits").film_edit(edit))
    made = judge.edit(
        pipelines,
        source,
        [caption(edit.source)],
        0,
        {"num_inference_steps": 20, "strength": 0.1, "guidance_scale": 1.0},
    )
    assert torch.from_numpy(made - source).square().mean() < 1e-2
