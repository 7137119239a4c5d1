"""The stages of the training of examples/shapes: cut short anywhere, and never shown what is held out."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKLWan, WanTransformer3DModel
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


@pytest.fixture
def narrow(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's networks in a size whose steps take no time."""
    monkeypatch.setattr(training("vae"), "make_vae", lambda: narrow_vae(training("models")))
    monkeypatch.setattr(training("text_to_latents"), "make_transformer", narrow_transformer)


@pytest.fixture
def stages(training: Training, narrow: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Stage]:
    """What trains each stage, and settings for two steps of it; what is held out is not looked at."""
    for name in ("clip", "videomae"):
        monkeypatch.setattr(training(name), "heldout_figures", lambda network: {})
    monkeypatch.setattr(training("vae"), "reconstruct", lambda vae, videos: videos)
    settings = training("common").StageSettings(2, batch=2, processes=1)
    transformer = training("transformer").TransformerSettings(2, batch=2, processes=1, compile=False)
    return {
        "vae": Stage(training("vae").train_vae, replace(settings, batch=1)),
        "transformer": Stage(training("transformer").train_transformer, transformer),
        "clip": Stage(training("clip").train_clip, settings),
        "videomae": Stage(training("videomae").train_videomae, settings),
    }


class Stage(NamedTuple):
    train: Callable[[Any, Any], None]
    settings: Any


def narrow_vae(models: ModuleType) -> AutoencoderKLWan:
    """The autoencoder with a quarter of the channels."""
    config = {key: value for key, value in models.make_vae().config.items() if not key.startswith("_")}
    return AutoencoderKLWan(**{**config, "base_dim": 4})


def narrow_transformer() -> WanTransformer3DModel:
    """One block of 32 channels, whose output is not zero, so that every weight has a gradient at once."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=1,
        attention_head_dim=32,
        in_channels=8,
        out_channels=8,
        text_dim=64,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=16,
    )


def tensors(state: Any, path: str = "") -> dict[str, Tensor]:
    """Every tensor in a checkpoint, by its place."""
    if isinstance(state, Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {place: tensor for key, value in items for place, tensor in tensors(value, f"{path}/{key}").items()}


@pytest.mark.parametrize("name", ["vae", "transformer", "clip", "videomae"])
def test_a_stage_that_was_killed_goes_on_as_if_it_had_not_been(
    training: Training, stages: dict[str, Stage], name: str, tmp_path: Path
) -> None:
    train, settings = stages[name]
    through, killed = (training("common").Folder(tmp_path / way) for way in ("through", "killed"))
    for folder in (through, killed):
        if name == "transformer":
            fake_latents(folder)
    train(through, settings)
    train(killed, replace(settings, stop=1))
    assert killed.require(name)["step"] == 1
    train(killed, settings)
    expected, found = (tensors(folder.require(name)) for folder in (through, killed))
    assert len(expected) > 50 and found.keys() == expected.keys()
    for place, tensor in expected.items():
        assert torch.equal(found[place], tensor), place


def test_a_stage_that_is_done_is_left_alone(training: Training, stages: dict[str, Stage], tmp_path: Path) -> None:
    train, settings = stages["videomae"]
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


def test_a_short_run_of_every_stage_leaves_a_whole_export(training: Training, narrow: None, tmp_path: Path) -> None:
    script = importlib.import_module("train")  # from the folder that `training` is in
    ran = CliRunner().invoke(script.main, ["--short", "--processes", "1", "--work", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
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
