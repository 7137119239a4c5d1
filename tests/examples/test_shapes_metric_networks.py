"""How the metric networks of examples/shapes are trained."""

from __future__ import annotations

import torch

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip, caption, heldout_clips, trained_clips
from tests.examples.networks import Training, perturbed


def test_the_embedding_of_a_text_does_not_depend_on_its_padding(training: Training) -> None:
    clip = training("clip")
    network = perturbed(clip.make_clip())
    short, long = "a red circle", caption(trained_clips()[0])
    alone, together = clip.embed_texts(network, [short])[0], clip.embed_texts(network, [short, long])
    torch.testing.assert_close(together[0], alone, rtol=1e-4, atol=1e-5)
    # And it does depend on the last word: it is taken from the end of the text.
    assert (clip.embed_texts(network, ["a red square"])[0] - alone).abs().max() > 1e-3


def test_groups_of_looks_can_be_told_apart_by_single_frames(training: Training) -> None:
    clip = training("clip")
    groups = clip.groups_of_looks(heldout_clips())
    assert [len(group) for group in groups] == [32, 32, 32]
    assert all(len({clip.look(member) for member in group}) == 32 for group in groups)
    assert len({member for group in groups for member in group}) == 96


def test_targets_name_one_value_of_every_attribute(training: Training) -> None:
    videomae = training("videomae")
    clip = ShapeClip("large", "cyan", "square", "slowly", "up", "brown")
    (target,) = videomae.targets([clip])
    assert [label for label, right in zip(videomae.LABELS, target, strict=True) if right] == [
        "size=large",
        "colour=cyan",
        "shape=square",
        "speed=slowly",
        "direction=up",
        "background=brown",
    ]
    assert set(videomae.right_answers(target[None], [clip]).values()) == {1.0}


def test_as_decoded_damages_a_little(training: Training) -> None:
    video = draw(trained_clips()[:8], torch.Generator().manual_seed(0))
    damaged = training("decoded").as_decoded(video, torch.Generator().manual_seed(0))
    assert damaged.shape == video.shape and damaged.abs().max() <= 1
    quality = training("common").psnr(damaged, video)
    assert quality.min() > 20 and quality.max() < 60
