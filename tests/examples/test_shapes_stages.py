"""The stages of the training of examples/shapes: cut short anywhere, and never shown what is held out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import (
    ShapeClip,
    calibration_clips,
    caption,
    heldout_clips,
    judged_clips,
    trained_clips,
)
from tests.examples.networks import Training

# Cut short and started again.


def fake_latents(folder: Any) -> None:
    """Noise in the place of encoded clips."""
    generator = torch.Generator().manual_seed(0)
    known, never = trained_clips()[:8], heldout_clips()[:4]
    folder.save(
        "latents",
        {
            "latents": torch.randn(8, 8, 5, 8, 8, generator=generator),
            "captions": [caption(clip) for clip in known],
            "heldout_latents": torch.randn(4, 8, 5, 8, 8, generator=generator),
            "heldout_captions": [caption(clip) for clip in never],
        },
    )


def stage(training: Training, name: str) -> tuple[Callable[[Any, Any], None], Any]:
    """A stage and settings for four steps of it."""
    if name == "vae":
        return training("vae").train_vae, training("common").StageSettings(4, batch=1, processes=1)
    if name == "transformer":
        module = training("transformer")
        return module.train_transformer, module.TransformerSettings(4, batch=2, processes=1, compile=False)
    settings = training("common").StageSettings(4, batch=4, processes=1)
    return getattr(training(name), f"train_{name}"), settings


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """Every tensor in a checkpoint, by its place."""
    if isinstance(state, Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {place: tensor for key, value in items for place, tensor in tensors(value, f"{path}/{key}").items()}


@pytest.mark.parametrize("name", ["vae", "transformer", "clip", "videomae"])
def test_a_stage_that_was_killed_goes_on_as_if_it_had_not_been(
    training: Training, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, settings = stage(training, name)
    if name in ("clip", "videomae"):  # Looking at the held-out clips takes most of the time and changes nothing.
        monkeypatch.setattr(training(name), "heldout_figures", lambda network: {})
    through, killed = (training("common").Folder(tmp_path / way) for way in ("through", "killed"))
    for folder in (through, killed):
        if name == "transformer":
            fake_latents(folder)
    train(through, settings)
    train(killed, replace(settings, stop=2))
    assert killed.require(name)["step"] == 2
    train(killed, settings)
    expected, found = (tensors(folder.require(name)) for folder in (through, killed))
    assert len(expected) > 50 and found.keys() == expected.keys()
    for place, tensor in expected.items():
        assert torch.equal(found[place], tensor), place


def test_a_stage_that_is_done_is_left_alone(training: Training, tmp_path: Path) -> None:
    train, settings = stage(training, "videomae")
    folder = training("common").Folder(tmp_path)
    train(folder, replace(settings, steps=1))
    before = (tmp_path / "videomae.pt").read_bytes()
    train(folder, replace(settings, steps=1))
    assert (tmp_path / "videomae.pt").read_bytes() == before


def test_a_missing_checkpoint_is_named(training: Training, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"latents\.pt is missing: run the stage that makes it first"):
        training("common").Folder(tmp_path).require("latents")


# What is trained on.


def test_heldout_and_trained_clips_are_apart() -> None:
    assert not set(heldout_clips()) & set(trained_clips())
    assert not set(calibration_clips()) & set(judged_clips())
    assert len(heldout_clips()) + len(trained_clips()) == 1152


def test_no_batch_holds_a_heldout_clip(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ShapeClip] = []

    def watched(clips: list[ShapeClip], generator: torch.Generator) -> Tensor:
        seen.extend(clips)
        return draw(clips, generator)

    for module in ("vae", "network"):
        monkeypatch.setattr(training(module), "draw", watched)
    generator = torch.Generator().manual_seed(0)
    training("vae")._batch(0, 100)
    training("clip")._loss(training("clip").make_clip(), 100, generator)
    training("videomae")._loss(training("videomae").make_videomae(), 100, generator)
    assert len(seen) == 300
    assert not set(seen) & set(heldout_clips())


def test_no_latent_is_of_a_heldout_clip(training: Training, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = training("latents")
    monkeypatch.setattr(module, "load_vae", lambda folder: training("models").make_vae())
    monkeypatch.setattr(module, "_encode_drawn", lambda vae, clips, generator: torch.randn(len(clips), 8, 5, 2, 2))
    data = module.latents(training("common").Folder(tmp_path), 1, 1200, 130)
    assert len(data["captions"]) == len(data["latents"]) == 1200
    assert set(data["captions"]) == {caption(clip) for clip in trained_clips()}
    assert set(data["heldout_captions"]) == {caption(clip) for clip in heldout_clips()}


# All of it.


def test_a_short_run_of_every_stage_leaves_a_whole_export(shapes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "--short", "--processes", "1", "--work", str(tmp_path)]
    ran = subprocess.run(command, cwd=shapes, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for name in (
        "model/model_index.json",
        "model/generation.json",
        "model/training.json",
        "model/transformer/diffusion_pytorch_model.safetensors",
        "metric_networks/clip/model.safetensors",
        "metric_networks/videomae/model.safetensors",
    ):
        assert (tmp_path / name).is_file(), name
    assert (tmp_path / "prompts" / "judged.txt").read_text().splitlines() == [caption(c) for c in judged_clips()]
