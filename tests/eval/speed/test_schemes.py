"""What a recipe makes of a block is what quantization makes of that block in the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from quant.errors import RecipeError
from quant.eval.speed.schemes import decide, for_block_alone
from quant.eval.speed.sizes import Model, models
from quant.models import fate
from quant.recipe import Recipe

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
}


@pytest.fixture(scope="module")
def whole() -> WanTransformer3DModel:
    """All 30 blocks, without memory."""
    with torch.device("meta"):
        return WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)


@pytest.mark.parametrize("name", RECIPES)
def test_as_in_the_whole_model(name: str, whole: WanTransformer3DModel) -> None:
    fates = {each.name: each.group for each in fate.decide(whole, RECIPES[name])}
    found = decide(WAN, RECIPES[name])
    assert found.groups == {each: fates[WAN.prefix + each] for each in found.groups}


def test_notes_say_what_happens_elsewhere() -> None:
    assert decide(WAN, RECIPES["everything"]).notes == ()
    assert decide(WAN, RECIPES["other blocks"]).notes == ("mine: groups[0] has no layer in block 15 of 30",)
    assert decide(WAN, RECIPES["edges"]).notes == ("mine keeps 3 blocks at each end in bf16; this is block 15 of 30",)


@pytest.mark.parametrize(
    "given",
    [
        recipe({"targets": ["re:blocks\\.0\\..*"], "scheme": "W8A8"}),
        recipe(LINEAR, ignore=["Linear"]),
        recipe(LINEAR, keep_edge_blocks=0.5),
    ],
)
def test_a_block_of_which_nothing_is_quantized(given: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"mine: quantizes nothing in block 15 of 30 of wan-1.3b"):
        decide(WAN, given)


@pytest.mark.parametrize(
    ("model", "given"),
    [*((WAN, each) for each in RECIPES.values()), *((each, RECIPES["everything"]) for each in models().values())],
)
def test_the_recipe_for_the_block_alone(model: Model, given: Recipe) -> None:
    found = decide(model, given)
    alone = for_block_alone(found, given, "blocks.0.")
    assert (alone.ignore, alone.keep_edge_blocks, alone.components) == ((), 0.0, None)
    schemes = {target: group.scheme for group in alone.groups for target in group.targets}
    assert schemes == {f"blocks.0.{layer}": its for layer, its in found.schemes.items() if its is not None}


def test_the_recipe_for_the_block_alone_keeps_algorithm_and_calibration() -> None:
    given = recipe({**LINEAR, "algorithm": {"name": "smoothquant", "alpha": 0.5}}, calibration={"rows": 64})
    alone = for_block_alone(decide(WAN, given), given, "blocks.0.")
    assert alone.groups[0].algorithm == given.groups[0].algorithm
    assert alone.calibration == given.calibration
