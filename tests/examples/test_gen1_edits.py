"""What examples/gen1 learns edits from and is judged by: clips alike in all but their looks, never one held out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quant.eval.shapes.draw import draw
from quant.eval.shapes.judge import accuracies, stray
from quant.eval.shapes.vocabulary import ShapeClip, caption, heldout_clips, judged_clips
from tests.examples.networks import Training

CLIP = ShapeClip("small", "red", "circle", "slowly", "up", "grey")


def pixels(videos: Tensor) -> Tensor:
    return videos.permute(0, 2, 3, 4, 1) / 2 + 0.5


def test_the_clips_of_a_scene_differ_in_their_looks_alone(stage: Training) -> None:
    edits = stage("edits")
    scene = edits.scenes(30)[29]
    assert len({replace(clip, colour="red", background="black") for clip in scene.clips}) == 1
    assert 4 <= len(set(scene.clips)) <= 6
    videos = pixels(edits.film(scene))
    assert videos.shape[1:] == (9, 32, 32, 3)
    assert all(stray(video, videos[0]) < 0.05 for video in videos)
    assert accuracies(list(videos), scene.clips)["all"] == 1.0


def test_every_kind_of_motion_is_filmed_and_nothing_held_out(stage: Training) -> None:
    found = [clip for scene in stage("edits").scenes(96) for clip in scene.clips]
    assert not set(found) & set(heldout_clips())
    assert len({(clip.size, clip.shape, clip.speed, clip.direction) for clip in found}) == 48


def test_judged_edits_lead_to_the_judged_clips_by_one_sentence(stage: Training) -> None:
    edits = stage("edits")
    judged = edits.judged_edits()
    assert [edit.edit for edit in judged] == judged_clips()
    sentences = [edits.sentence(edit.source, edit.edit) for edit in judged]
    assert sum(text.startswith("make the background") for text in sentences) == 16 and None not in sentences
    assert all(edit.source != edit.edit for edit in judged)
    video = pixels(edits.film_edit(judged[3]))
    assert accuracies(list(video), [judged[3].source])["all"] == 1.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"colour": "blue"}, "make the circle blue"),
        ({"background": "white"}, "make the background white"),
        ({"colour": "blue", "background": "white"}, None),
        ({"direction": "down"}, None),
    ],
)
def test_sentence(stage: Training, changes: dict[str, str], text: str | None) -> None:
    assert stage("edits").sentence(CLIP, replace(CLIP, **changes)) == text


def test_every_word_is_a_token_and_every_caption_fits(stage: Training) -> None:
    models = stage("models")
    tokenizer = models.make_tokenizer()
    texts = [caption(clip) for clip in judged_clips()] + ["make the triangle purple", "make the background cyan", ""]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert len(ids) == len(text.split()) + 2 <= models.TEXT_TOKENS
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len({tokenizer(word).input_ids[1] for word in models.WORDS}) == len(models.WORDS)


def test_pairs_to_join_are_those_of_byte_pair_encoding(stage: Training) -> None:
    # a and b meet twice in the middle of a word; every later pair is met once, and they come by the alphabet.
    found = stage("models").pairs_to_join(("abc", "abcd", "xab"))
    ends = [("a", "b</w>"), ("ab", "c"), ("ab", "c</w>"), ("abc", "d</w>"), ("x", "ab</w>")]
    assert found == [("a", "b"), *ends]


def test_standardised_latents_are_those_of_the_autoencoder_shifted_and_scaled(stage: Training) -> None:
    torch.manual_seed(0)
    vae = stage("models").make_vae().eval().requires_grad_(False)
    frames = draw([CLIP], torch.Generator().manual_seed(0))[0].transpose(0, 1)[:4]
    mean, std = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([0.3, 2.0, 1.0, 5.0])
    before = vae.encode(frames).latent_dist
    decoded = vae.decode(before.mean).sample
    after = stage("latents").standardised(vae, mean, std).encode(frames).latent_dist
    shift, scale = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
    torch.testing.assert_close(after.mean, (before.mean - shift) / scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.std, before.std / scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vae.decode(after.mean).sample, decoded, rtol=1e-4, atol=1e-4)
