from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from quant.calibration.layer_plan import Kept, LayerPlan, Planned, layer_plan
from quant.errors import RecipeError
from quant.recipe import Recipe
from tests.calibration.plans import reason_of
from tests.tiny_models import ModelMaker

MODELS = (
    "WanTransformer3DModel",
    "WanVACETransformer3DModel",
    "LTXVideoTransformer3DModel",
    "CogVideoXTransformer3DModel",
    "HunyuanVideoTransformer3DModel",
    "UNet3DConditionModel",
    "UNetSpatioTemporalConditionModel",
)
WAN = "WanTransformer3DModel"


class Small(nn.Module):
    """A model of no known family, with a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 1)
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(5, 2)


def _recipe(*targets: str, **fields: Any) -> Recipe:
    groups = [{"targets": [target], "scheme": "W8A8"} for target in targets or ("Linear",)]
    return Recipe.from_dict({"version": 1, "groups": groups, **fields}, "r.yaml")


def _by_name(model: nn.Module, recipe: Recipe) -> dict[str, LayerPlan]:
    return {layer.name: layer for layer in layer_plan(model, recipe)}


@pytest.mark.parametrize("class_name", MODELS)
def test_every_layer_has_exactly_one_plan(make_model: ModelMaker, class_name: str) -> None:
    model = make_model(class_name)
    plan = layer_plan(model, _recipe())
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    assert [layer.name for layer in plan] == list(layers)
    for layer in plan:
        module = layers[layer.name]
        assert (isinstance(layer, Kept)) == bool(reason_of(layer))
        assert layer.kind == type(module).__name__
        assert layer.shape == tuple(module.weight.shape)
        assert isinstance(layer, Kept) or isinstance(module, nn.Linear)


def test_a_model_of_no_family_has_all_linears_quantized_and_no_small_convolution() -> None:
    plan = _by_name(Small(), _recipe())
    assert {name for name, layer in plan.items() if isinstance(layer, Planned)} == {"first", "second"}
    reason = "a small convolution, of 2 input channels: fewer than 16 stay as they are"
    assert reason_of(plan["conv"]) == reason
    assert {layer.input_group for layer in plan.values() if isinstance(layer, Planned)} == {"first", "second"}


def test_a_target_may_be_a_class_that_the_model_has_none_of_if_another_names_layers() -> None:
    group = {"targets": ["Linear", "Conv1d", "Conv2d"], "scheme": "W8A8"}
    plan = layer_plan(Small(), Recipe.from_dict({"version": 1, "groups": [group]}))
    assert [layer.name for layer in plan if isinstance(layer, Planned)] == ["first", "second"]
    for targets in (["Conv2d"], ["Linear", "Convolution2d"], ["Conv1d", "Conv2d"]):
        recipe = Recipe.from_dict({"version": 1, "groups": [{**group, "targets": targets}]})
        with pytest.raises(RecipeError, match=r"matches no layer|matches is kept|takes every layer"):
            layer_plan(Small(), recipe)


def test_the_first_group_that_matches_wins(make_model: ModelMaker) -> None:
    recipe = _recipe(r"re:.*\.ffn\..*", "Linear")
    for name, layer in _by_name(make_model(WAN), recipe).items():
        if isinstance(layer, Planned):
            assert layer.group is recipe.groups[0 if ".ffn." in name else 1]


def test_a_subclass_is_matched_by_the_class_it_extends() -> None:
    class Special(nn.Linear):
        pass

    plan = _by_name(nn.Sequential(Special(2, 2), nn.Linear(2, 2)), _recipe("Special", "Linear"))
    assert [layer.group.targets for layer in plan.values() if isinstance(layer, Planned)] == [("Special",), ("Linear",)]
    assert isinstance(_by_name(nn.Sequential(Special(2, 2)), _recipe())["0"], Planned)


def test_a_layer_that_no_group_targets_is_kept_with_its_reason(make_model: ModelMaker) -> None:
    plan = _by_name(make_model(WAN), _recipe(r"re:.*\.attn1\..*"))
    assert isinstance(plan["blocks.0.attn1.to_q"], Planned)
    assert reason_of(plan["blocks.0.ffn.net.2"]) == "no group of the recipe targets it"


def test_ignore_comes_before_every_other_reason(make_model: ModelMaker) -> None:
    plan = _by_name(make_model(WAN), _recipe(ignore=["re:.*proj.*", "blocks.1.attn1.to_v"]))
    for name in ("blocks.1.ffn.net.0.proj", "proj_out", "condition_embedder.time_proj"):
        assert reason_of(plan[name]) == "ignored by the recipe ('re:.*proj.*')"
    assert reason_of(plan["blocks.1.attn1.to_v"]) == "ignored by the recipe ('blocks.1.attn1.to_v')"
    assert isinstance(plan["blocks.0.attn1.to_v"], Planned)
    assert reason_of(plan["condition_embedder.time_embedder.linear_1"]) == "outside the repeated blocks (wan)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targets": ("Linear", "blocks.9.attn1.to_q")}, "groups[1].targets: 'blocks.9.attn1.to_q' matches no layer"),
        ({"targets": ("re:blocks",)}, "groups[0].targets: 're:blocks' matches no layer"),
        ({"targets": ("linear",)}, "groups[0].targets: 'linear' matches no layer"),
        ({"ignore": ["proj_ouT"]}, "ignore: 'proj_ouT' matches no layer of the_model; a Linear there is '"),
    ],
)
def test_a_pattern_that_names_nothing_is_an_error(make_model: ModelMaker, fields: dict[str, Any], message: str) -> None:
    recipe = _recipe(*fields.pop("targets", ()), **fields)
    with pytest.raises(RecipeError) as caught:
        layer_plan(make_model(WAN), recipe, "the_model")
    assert str(caught.value).startswith(f"r.yaml: {message}")
    assert "the_model" in str(caught.value)


def test_a_group_that_an_earlier_one_leaves_nothing_for_is_an_error(make_model: ModelMaker) -> None:
    with pytest.raises(RecipeError, match=r"groups\[1\]: an earlier group takes every layer"):
        layer_plan(make_model(WAN), _recipe("Linear", r"re:blocks\.0\..*"))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (_recipe(r"re:(proj_out|patch_embedding)", ignore=["proj_out"]), r"'patch_embedding': a small convolution"),
        (_recipe(ignore=["Linear"]), r"ignored by the recipe \('Linear'\)"),
        (_recipe("Conv3d"), "outside the repeated blocks"),
    ],
)
def test_a_group_whose_layers_are_all_kept_is_an_error_that_says_why(
    make_model: ModelMaker, recipe: Recipe, reason: str
) -> None:
    with pytest.raises(RecipeError, match=rf"groups\[0\]: every layer .* is kept .*{reason}"):
        layer_plan(make_model(WAN), recipe)
