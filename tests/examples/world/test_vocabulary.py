from __future__ import annotations

import hashlib
from dataclasses import asdict, replace

import pytest

from quant.eval.shapes.vocabulary import (
    ATTRIBUTES,
    ShapeClip,
    all_clips,
    calibration_clips,
    caption,
    heldout_clips,
    judged_clips,
    parse_caption,
    trained_clips,
)

CLIP = ShapeClip("small", "red", "circle", "slowly", "left", "black")
TEXT = "a small red circle moves slowly left over a black background"


def test_the_caption_of_a_clip() -> None:
    assert caption(CLIP) == TEXT


def test_every_clip_is_listed_once_and_read_back_from_its_caption() -> None:
    clips = all_clips()
    assert len(clips) == len(set(clips)) == len({caption(clip) for clip in clips}) == 1152
    assert all(parse_caption(caption(clip)) == clip for clip in clips)


def test_space_between_words_does_not_matter() -> None:
    assert parse_caption(f"  {TEXT.replace(' ', '  ')}\n") == CLIP


@pytest.mark.parametrize(
    "text",
    ["", "a cat", TEXT + ".", "so " + TEXT, TEXT.replace("red", "pink"), TEXT.replace("left", "away"), TEXT.upper()],
)
def test_another_sentence_is_no_clip(text: str) -> None:
    assert parse_caption(text) is None


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_value_that_is_not_in_the_vocabulary_is_an_error(attribute: str) -> None:
    with pytest.raises(ValueError, match=f"'odd' is no {attribute}: choose from {', '.join(ATTRIBUTES[attribute])}"):
        replace(CLIP, **{attribute: "odd"})


def test_attributes_are_the_fields_in_order() -> None:
    assert list(ATTRIBUTES) == list(asdict(CLIP))


def test_the_split_is_whole_and_does_not_overlap() -> None:
    heldout, trained = heldout_clips(), trained_clips()
    assert (len(heldout), len(trained)) == (115, 1037)
    assert set(heldout) | set(trained) == set(all_clips())


def test_judged_clips_were_never_trained_on() -> None:
    assert len(set(judged_clips())) == 64
    assert set(judged_clips()) <= set(heldout_clips())


def test_calibration_sees_nothing_that_is_held_out_or_judged() -> None:
    calibration = set(calibration_clips())
    assert len(calibration) == 64
    assert calibration <= set(trained_clips()) - set(judged_clips())


@pytest.mark.parametrize("clips", [heldout_clips(), judged_clips(), calibration_clips()], ids=["h", "j", "c"])
def test_every_value_occurs(clips: list[ShapeClip]) -> None:
    for attribute, values in ATTRIBUTES.items():
        assert {getattr(clip, attribute) for clip in clips} == set(values)


def test_the_split_never_changes() -> None:
    """A model that was trained on this split would be judged on clips it has seen after any change of it."""
    order = "\n".join(caption(clip) for clip in heldout_clips() + trained_clips())
    assert (
        hashlib.sha256(order.encode()).hexdigest() == "26b740a2754ce6253b0942a2d15bec4031d5e86359673a9d5e32832118fa94ad"
    )
