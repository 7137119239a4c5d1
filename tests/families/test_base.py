from __future__ import annotations

from dataclasses import replace

import pytest

from quant.families.base import SEQUENCE, Family

TOY = Family(
    name="toy",
    classes=("Toy",),
    blocks=r"(?:left|right)\.(\d+)\.",
    shared_inputs=(("q", "k", "v"), ("mlp.a", "mlp.b")),
    roles=(("modulation", r"\.norm\.linear$"), ("feed_forward", r"\.mlp\."), ("attention", r"\.[qkv]$")),
)
FLAT = Family(name="flat", classes=("Flat",), blocks=None, shared_inputs=(("q", "k"),), roles=TOY.roles)


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        ("left.0.q", ("left.", 0)),
        ("left.12.mlp.a", ("left.", 12)),
        ("right.3.inner.7.q", ("right.", 3)),
    ],
)
def test_a_block_is_its_list_and_its_index_there(layer: str, place: tuple[str, int]) -> None:
    assert TOY.block(layer) == place


@pytest.mark.parametrize("layer", ["q", "left.q", "left.0", "outer.left.0.q", "leftover.0.q", "left.x.q"])
def test_what_is_not_below_a_block_is_outside(layer: str) -> None:
    assert TOY.block(layer) is None


def test_a_family_without_blocks_has_none() -> None:
    assert FLAT.block("left.0.q") is None


@pytest.mark.parametrize("layer", ["left.2.q", "left.2.k", "left.2.v"])
def test_layers_that_share_an_input_have_one_group(layer: str) -> None:
    assert TOY.input_group(layer) == "left.2.q"


def test_groups_do_not_cross_blocks_or_lists() -> None:
    names = ["left.1.q", "left.2.q", "left.12.q", "right.1.q", "left.1.mlp.b"]
    assert [TOY.input_group(name) for name in names] == [*names[:-1], "left.1.mlp.a"]


@pytest.mark.parametrize("layer", ["left.1.out", "left.1.inner.q", "left.1.qk", "q", "other.1.q"])
def test_any_other_layer_is_its_own_group(layer: str) -> None:
    assert TOY.input_group(layer) == layer


def test_a_family_without_blocks_shares_nothing() -> None:
    assert [FLAT.input_group(name) for name in ("q", "k")] == ["q", "k"]


@pytest.mark.parametrize(
    ("layer", "role"),
    [
        ("left.0.mlp.a", "feed_forward"),
        ("left.0.mlp.norm.linear", "modulation"),  # two match: the first counts
        ("right.1.k", "attention"),
        ("left.0.other", None),
        ("outside.mlp.a", None),
    ],
)
def test_a_layer_inside_a_block_has_the_first_role_that_its_name_matches(layer: str, role: str | None) -> None:
    assert TOY.role(layer) == role


def test_without_blocks_every_layer_can_have_a_role() -> None:
    assert FLAT.role("outside.mlp.a") == "feed_forward"


U = Family(
    name="u",
    classes=("U",),
    blocks=r"(?:(?:down|up)\.(\d+)|middle)\.",
    shared_inputs=(
        ("frames.*.blocks.*.attn2.q", "frames.*.blocks.*.attn2.k"),
        ("attn2.k", "attn2.v"),
        ("near.*.q", "far.*.k"),
    ),
    sequence=("down.0.", "down.1.", "middle.", "up.0."),
)


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        ("down.1.q", (SEQUENCE, 1)),
        ("middle.q", (SEQUENCE, 2)),
        ("up.0.frames.1.q", (SEQUENCE, 3)),
        ("middleman.q", None),
    ],
)
def test_blocks_of_a_sequence_are_counted_in_its_order(layer: str, place: tuple[str, int] | None) -> None:
    assert U.block(layer) == place


def test_without_its_sequence_a_middle_is_a_list_of_its_own() -> None:
    family = replace(U, sequence=())
    assert [family.block(name) for name in ("up.0.q", "middle.q")] == [("up.", 0), ("middle.", 0)]


@pytest.mark.parametrize(
    ("layer", "group"),
    [
        ("down.0.frames.1.blocks.2.attn2.k", "down.0.frames.1.blocks.2.attn2.q"),
        ("down.0.frames.1.blocks.3.attn2.k", "down.0.frames.1.blocks.3.attn2.q"),
        ("down.0.pixels.1.blocks.2.attn2.v", "down.0.pixels.1.blocks.2.attn2.k"),
        ("middle.attn2.v", "middle.attn2.k"),
        ("middle.cross_attn2.v", "middle.cross_attn2.v"),
        ("middle.inner.far.7.k", "middle.inner.near.7.q"),
    ],
)
def test_names_end_alike_and_a_star_is_an_index(layer: str, group: str) -> None:
    assert U.input_group(layer) == group
