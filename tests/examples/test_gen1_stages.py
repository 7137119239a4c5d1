"""The stages of the training of examples/gen1: what they aim at, and that a kill changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip, heldout_clips, judged_clips, parse_caption, trained_clips
from tests.examples.networks import Training
from tests.examples.test_shapes_stages import tensors


@pytest.fixture
def folder(stage: Training) -> type[Any]:
    """The class of a training's folder."""
    found: type[Any] = stage("vae").Folder
    return found


@pytest.fixture
def narrow(stage: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's networks in a size whose steps take no time."""
    monkeypatch.setattr(stage("vae"), "make_vae", narrow_vae)
    monkeypatch.setattr(stage("latents"), "make_vae", narrow_vae)
    monkeypatch.setattr(stage("unet"), "make_unet", narrow_unet)


def narrow_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 4),
        norm_num_groups=2,
        latent_channels=4,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def narrow_unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock3D",),
        up_block_types=("CrossAttnUpBlock3D",),
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=64,
        attention_head_dim=2,
    )


def fake_latents(stage: Training, held: int = 3) -> dict[str, Any]:
    """Noise in the place of encoded scenes."""
    found = stage("edits").scenes(4)
    clips = [clip for scene in found for clip in scene.clips]
    generator = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(len(clips), 4, 9, 8, 8, generator=generator),
        "clips": clips,
        "scenes": [i for i, scene in enumerate(found) for _ in scene.clips],
        "heldout_latents": torch.randn(held, 4, 9, 8, 8, generator=generator),
        "heldout_clips": heldout_clips()[:held],
    }


def batch(stage: Training, share: slice = slice(None), size: int = 12, step: int = 0) -> Any:
    data = fake_latents(stage)
    return stage("lessons").make_batch(data, stage("latents").scene_members(data), step, size, share)


# What is learned.


def test_what_is_learned_of_an_edit_is_the_walk_of_the_pipelines_scheduler(stage: Training) -> None:
    """DDIM from the noised source, with a network that always aims at the clip, passes every mixture learned."""
    lessons = stage("lessons")
    scheduler = stage("models").make_scheduler()
    scheduler.set_timesteps(20)
    times = scheduler.timesteps[8:]  # as a strength of 0.6 starts
    assert times[0] == 599
    clip, source, noise = torch.randn(3, 1, 4, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    state = scheduler.add_noise(source, noise, times[:1])
    for time in times:
        step = lessons.Batch(clip, source, noise, time.view(1), times[:1], [""])
        mixed, v = lessons.Mixing().mixed(step)
        torch.testing.assert_close(state, mixed, rtol=1e-4, atol=1e-4)
        found = scheduler.step(v, time, state)
        torch.testing.assert_close(found.pred_original_sample, clip, rtol=1e-3, atol=1e-3)
        state = found.prev_sample
    torch.testing.assert_close(state, clip, rtol=1e-3, atol=1e-3)


def test_without_a_source_nothing_is_left_at_the_latest_time_but_noise(stage: Training) -> None:
    lessons = stage("lessons")
    clip, source, noise = torch.randn(3, 1, 4, 9, 8, 8)
    last = torch.tensor([999])
    mixed, v = lessons.Mixing().mixed(lessons.Batch(clip, source, noise, last, last, [""]))
    assert torch.equal(mixed, noise) and torch.equal(v, -clip)


def test_the_shares_of_processes_are_the_batch(stage: Training) -> None:
    whole = batch(stage)
    parts = [batch(stage, slice(rank, None, 2)) for rank in range(2)]
    assert len(parts[0].texts) == len(parts[1].texts) == 6
    for rank, part in enumerate(parts):
        assert torch.equal(part.clips, whole.clips[rank::2]) and torch.equal(part.noise, whole.noise[rank::2])
        assert torch.equal(part.times, whole.times[rank::2]) and part.texts == whole.texts[rank::2]


def test_edits_are_somewhere_on_their_walk_and_others_have_no_source(stage: Training) -> None:
    found = batch(stage, size=48)
    edits = (found.sources != found.clips).flatten(1).any(dim=1)
    assert 8 <= edits.sum() <= 24
    assert (found.times <= found.starts).all() and (found.starts[~edits] == 999).all()
    assert found.starts[edits].min() >= 450
    assert any(text.startswith("make the") for text in found.texts) and "" in found.texts


@pytest.mark.parametrize("part", [0, 1, 2])
def test_later_parts_of_the_training_hide_most_clips_almost_wholly(stage: Training, part: int) -> None:
    found = batch(stage, size=1000, step=stage("lessons").PARTS[part].start)
    plain = (found.sources == found.clips).flatten(1).all(dim=1)
    hidden = (found.times[plain] >= 850).float().mean()
    # Of even u the last 0.15 of 1 - (1 - u)^s is the last 0.15^(1 / s) of 1.
    assert abs(hidden - 0.15 ** (1 / (part + 1))) < 0.04


def test_the_last_part_shows_clips_backwards_as_well(stage: Training) -> None:
    found = batch(stage, size=48, step=stage("lessons").PARTS[-1].start)
    pairs = 0
    for i in range(len(found.clips)):
        for j in range(i):
            if torch.equal(found.noise[i], found.noise[j]):
                assert torch.equal(found.clips[j], found.clips[i].flip(1)) and found.times[i] == found.times[j]
                seen = [parse_caption(found.texts[each]) for each in (i, j)]
                if seen[0] is None or seen[1] is None:
                    assert found.texts[i] == found.texts[j] == ""
                else:
                    assert stage("edits").backwards(seen[0]) == seen[1] and not set(seen) & set(heldout_clips())
                    pairs += 1
    assert pairs >= 8


def test_a_clip_backwards_is_what_is_drawn_of_it(stage: Training) -> None:
    clip = next(clip for clip in trained_clips() if stage("edits").backwards(clip) is not None)
    films = [draw([each], torch.Generator().manual_seed(3)) for each in (clip, stage("edits").backwards(clip))]
    torch.testing.assert_close(films[0].flip(2), films[1])
    assert all(stage("edits").backwards(clip) not in heldout_clips() for clip in trained_clips())


def test_no_frame_of_the_autoencoder_is_held_out(stage: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ShapeClip] = []

    def watched(clips: list[ShapeClip], generator: torch.Generator) -> Tensor:
        seen.extend(clips)
        return draw(clips, generator)

    monkeypatch.setattr(stage("vae"), "draw", watched)
    settings = stage("vae").StageSettings(1, batch=200, processes=1)
    frames, _ = stage("vae")._batch(0, 0, settings)
    assert frames.shape == (400, 3, 32, 32)
    assert len(seen) == 200 and not set(seen) & set(heldout_clips())


# Cut short and started again.


@pytest.mark.parametrize("name", ["vae", "unet"])
def test_a_stage_that_was_killed_goes_on_as_if_it_had_not_been(
    stage: Training, folder: type[Any], narrow: None, name: str, tmp_path: Path
) -> None:
    train = {"vae": stage("vae").train_vae, "unet": stage("unet").train_unet}[name]
    settings = {
        "vae": stage("vae").StageSettings(3, batch=1, processes=1),
        "unet": stage("unet").UNetSettings(3, batch=4, processes=1),
    }[name]
    through, killed = (folder(tmp_path / way) for way in ("through", "killed"))
    for place in (through, killed):
        place.save("latents", fake_latents(stage))
    train(through, settings)
    train(killed, replace(settings, stop=1))
    assert killed.require(name)["step"] == 1
    train(killed, settings)
    expected, found = (tensors(place.require(name)) for place in (through, killed))
    assert len(expected) > 50 and found.keys() == expected.keys()
    for place, tensor in expected.items():
        assert torch.equal(found[place], tensor), place
    before = (tmp_path / "killed" / f"{name}.pt").read_bytes()
    train(killed, settings)
    assert (tmp_path / "killed" / f"{name}.pt").read_bytes() == before


def test_a_short_run_of_every_stage_leaves_a_folder_that_both_pipelines_load(
    gen1_script: Training, narrow: None, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(
        gen1_script("train").main, ["--short", "--processes", "1", "--work", str(tmp_path)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "prompts" / "judged.txt").read_text().count("\n") == 64
    judge = gen1_script("judge")
    pipelines = judge.Pipelines.load(tmp_path / "model", tmp_path / "editor")
    settings = {"num_inference_steps": 2, "guidance_scale": 1.0}
    clips = judged_clips()[:2]
    made = judge.generate(pipelines, clips, 0, settings | {"num_frames": 9, "height": 32, "width": 32})
    assert made.shape == (2, 9, 32, 32, 3)
    edited = judge.edit(pipelines, made, ["make the circle blue", ""], 0, settings | {"strength": 0.6})
    assert edited.shape == made.shape
    assert judge.reconstruct(pipelines, made).shape == made.shape
