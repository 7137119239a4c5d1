"""What a recipe makes of a block is what quantization makes of that block in the whole model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

import quant
from quant.errors import RecipeError
from quant.eval.bench.schemes import decide, for_block_alone
from quant.eval.bench.sizes import Model, models
from quant.families import table
from quant.families.wan import WAN as WAN_FAMILY
from quant.recipe import Recipe
from quant.recipe_parts import Algorithm, Sparsity
from tests.eval.bench.small import kept

WAN = models()["wan-1.3b"]


def recipe(*groups: dict[str, Any], **rest: Any) -> Recipe:
    return Recipe.from_dict({"version": 1, "groups": list(groups), **rest}, "mine")


LINEAR = {"targets": ["Linear"], "scheme": "W8A8"}
RECIPES = {
    "everything": recipe(LINEAR),
    "ignored": recipe(LINEAR, ignore=["re:.*\\.attn2\\.to_k", "blocks.3.ffn.net.2"]),
    "other blocks": recipe({"targets": ["re:blocks\\.(0|29)\\..*"], "scheme": "FP8_DYNAMIC"}, LINEAR),
    "this block": recipe({"targets": ["re:blocks\\.15\\.attn1.*"], "scheme": "FP8_DYNAMIC"}, LINEAR),
    "the first wins": recipe({"targets": ["re:.*ffn.*"], "scheme": "FP8"}, LINEAR),
    "not all": recipe({"targets": ["re:.*\\.to_q"], "scheme": "FP8"}),
    "edges": recipe(LINEAR, keep_edge_blocks=0.1),
    "INT4": recipe({"targets": ["Linear"], "scheme": "W4A16"}),
    "2:4 and INT4": recipe(
        {"targets": ["re:.*ffn.*"], "sparsity": {"structure": "2:4", "method": "search"}},
        {"targets": ["Linear"], "scheme": "W4A8", "algorithm": "gptq"},
    ),
}


@pytest.fixture(scope="module")
def whole() -> WanTransformer3DModel:
    """All 30 blocks, without memory."""
    with torch.device("meta"):
        return WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)


@pytest.mark.parametrize("name", RECIPES)
def test_as_in_the_whole_model(name: str, whole: WanTransformer3DModel) -> None:
    plan = quant.layer_groups(whole, RECIPES[name])
    found = decide(WAN, RECIPES[name])
    assert found.groups == {each: plan[WAN.prefix + each] for each in found.groups}


def test_notes_say_what_happens_elsewhere() -> None:
    assert decide(WAN, RECIPES["everything"]).notes == ()
    assert decide(WAN, RECIPES["other blocks"]).notes == ("mine: groups[0] has no layer in block 15 of 30",)
    assert decide(WAN, RECIPES["edges"]).notes == ("mine keeps 3 blocks at each end in bf16; this is block 15 of 30",)


def test_a_block_of_which_nothing_is_quantized() -> None:
    with pytest.raises(RecipeError, match=r"mine: quantizes nothing in block 15 of 30 of wan-1.3b"):
        decide(WAN, recipe({"targets": ["re:blocks\\.0\\..*"], "scheme": "W8A8"}))


@pytest.mark.parametrize(
    "given",
    [
        recipe(LINEAR, ignore=["Linear"]),
        recipe(LINEAR, keep_edge_blocks=0.5),
        recipe(LINEAR, {"targets": ["re:.*\\.to_w"], "scheme": "FP8"}),
    ],
)
def test_a_recipe_that_calibration_refuses_is_refused_in_the_same_words(
    given: Recipe, whole: WanTransformer3DModel
) -> None:
    with pytest.raises(RecipeError) as expected:
        quant.layer_groups(whole, given)
    with pytest.raises(RecipeError) as found:
        decide(WAN, given)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_what_diffusers_declares_to_be_kept_is_kept(model: Model) -> None:
    found = decide(model, RECIPES["everything"])
    assert [name for name, group in found.groups.items() if group is None] == list(kept(model))


def test_what_a_family_keeps_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    family = replace(WAN_FAMILY, keep=((r"\.attn2\.to_k$", "reads what matters"),))
    monkeypatch.setattr(table, "FAMILIES", (family,))
    found = decide(WAN, RECIPES["everything"])
    assert [name for name, group in found.groups.items() if group is None] == ["attn2.to_k"]


@pytest.mark.parametrize(
    ("model", "given"),
    [*((WAN, each) for each in RECIPES.values()), *((each, RECIPES["everything"]) for each in models().values())],
)
def test_the_recipe_for_the_block_alone(model: Model, given: Recipe) -> None:
    found = decide(model, given)
    alone = for_block_alone(found, given, "blocks.0.")
    assert (alone.ignore, alone.keep_edge_blocks, alone.components) == ((), 0.0, None)
    layer_formats = {target: group.layer_format for group in alone.groups for target in group.targets}
    assert layer_formats == {f"blocks.0.{layer}": its for layer, its in found.layer_formats.items() if its is not None}


NARROW = WAN._replace(d=1536 - 64, heads=23, head_dim=64)


def test_layers_that_do_not_fit_are_kept_or_refused() -> None:
    int4 = {"targets": ["Linear"], "scheme": "W4A16"}
    with pytest.raises(
        RecipeError, match=r"mine: layer 'blocks\.0\.attn1\.to_q' \[1472, 1472\]: groups of 128 do not fit"
    ):
        decide(NARROW, recipe(int4))
    found = decide(NARROW, recipe({**int4, "misfits": "keep"}))
    assert [name for name, layer_format in found.layer_formats.items() if layer_format is not None] == [
        "ffn.net.2"
    ]  # K = 8960


def test_low_rank_branches_are_refused() -> None:
    given = recipe({"targets": ["Linear"], "scheme": "W4A16", "algorithm": {"name": "svdquant", "rank": 16}})
    with pytest.raises(RecipeError, match="mine: blocks are not measured or predicted with the branches of svdquant"):
        decide(WAN, given)


def test_what_a_budget_keeps_is_not_looked_at() -> None:
    given = recipe(LINEAR, keep_budget={"share": 0.1})
    found = decide(WAN, given)
    assert found.notes == (
        "mine: its keep_budget is not looked at: what that keeps is found by measuring the whole model",
    )
    assert for_block_alone(found, given, "blocks.0.").keep_budget is None


def test_the_recipe_for_the_block_alone_finds_codes_and_zeros_without_data() -> None:
    given = recipe(
        {
            "targets": ["re:.*ffn.*"],
            "scheme": "W8A8",
            "sparsity": {"structure": "2:4", "method": "search"},
            "algorithm": "gptq",
        },
        {"targets": ["re:.*attn1.*"], "scheme": "W4A16", "algorithm": {"name": "gptq", "clip": True}},
        {
            "targets": ["Linear"],
            "scheme": "W8A8",
            "algorithm": {"name": "smoothquant", "alpha": 0.5, "rounding": "gptq"},
        },
    )
    alone = for_block_alone(decide(WAN, given), given, "blocks.0.")
    assert [group.algorithm for group in alone.groups] == [None, None, Algorithm("smoothquant", (("alpha", 0.5),))]
    assert [group.sparsity for group in alone.groups] == [Sparsity("magnitude"), None, None]
    assert [group.layer_format for group in alone.groups] == [group.layer_format for group in given.groups]


def test_the_recipe_for_the_block_alone_keeps_algorithm_and_calibration() -> None:
    given = recipe({**LINEAR, "algorithm": {"name": "smoothquant", "alpha": 0.5}}, calibration={"rows": 64})
    alone = for_block_alone(decide(WAN, given), given, "blocks.0.")
    assert alone.groups[0].algorithm == given.groups[0].algorithm
    assert alone.calibration == given.calibration
