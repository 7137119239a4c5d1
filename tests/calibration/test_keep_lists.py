"""What stays in high precision by depth and by diffusers' own declarations."""

from __future__ import annotations

import re
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.hooks import apply_layerwise_casting
from torch import nn

from quant.calibration.layer_plan import Kept, LayerPlan, layer_plan
from quant.errors import RecipeError
from quant.recipe import Recipe
from tests.calibration.plans import reason_of
from tests.tiny_models import ModelMaker


def _recipe(edge: float = 0.0) -> Recipe:
    groups = [{"targets": ["Linear"], "scheme": "FP8_DYNAMIC"}]
    return Recipe.from_dict({"version": 1, "groups": groups, "keep_edge_blocks": edge}, "r.yaml")


def _plan(model: nn.Module, edge: float = 0.0) -> dict[str, LayerPlan]:
    return {layer.name: layer for layer in layer_plan(model, _recipe(edge)) if layer.kind == "Linear"}


@pytest.mark.parametrize(
    ("depth", "edge", "kept"),
    [
        (3, 0.0, set()),
        (3, 0.3, {0, 2}),
        (6, 0.2, {0, 5}),
        (6, 0.35, {0, 1, 4, 5}),
        (12, 0.05, {0, 11}),
        (12, 0.4, {0, 1, 2, 3, 4, 7, 8, 9, 10, 11}),
    ],
)
def test_edge_blocks_are_a_share_of_the_depth(make_model: ModelMaker, depth: int, edge: float, kept: set[int]) -> None:
    plan = _plan(make_model("WanTransformer3DModel", num_layers=depth), edge)
    for index in range(depth):
        reasons = {reason_of(layer) for name, layer in plan.items() if name.startswith(f"blocks.{index}.")}
        assert reasons == ({f"edge block {index} of {depth} (keep_edge_blocks)"} if index in kept else {""})


def test_each_list_of_blocks_has_its_own_depth(make_model: ModelMaker) -> None:
    model = make_model("HunyuanVideoTransformer3DModel", num_layers=3, num_single_layers=9)
    edges = {
        name.rsplit(".attn")[0] for name, layer in _plan(model, 0.2).items() if reason_of(layer).startswith("edge")
    }
    places = {re.sub(r"\.(\d+)\..*", r".\1", name) for name in edges}
    single = {f"single_transformer_blocks.{index}" for index in (0, 1, 7, 8)}
    assert places == {"transformer_blocks.0", "transformer_blocks.2"} | single


@pytest.mark.parametrize(
    ("class_name", "edge", "has"),
    [("WanTransformer3DModel", 0.1, "3 blocks"), ("UNet3DConditionModel", 0.05, "5 blocks")],
)
def test_a_share_that_keeps_no_block_is_an_error(
    make_model: ModelMaker, class_name: str, edge: float, has: str
) -> None:
    with pytest.raises(RecipeError, match=rf"r\.yaml: keep_edge_blocks: {edge} keeps no block of model.*{has}"):
        layer_plan(make_model(class_name), _recipe(edge))


@pytest.mark.parametrize(
    "class_name",
    [
        "CogVideoXTransformer3DModel",
        "HunyuanVideoTransformer3DModel",
        "UNet3DConditionModel",
    ],
)
def test_skip_patterns_keep_what_diffusers_skips(make_model: ModelMaker, class_name: str) -> None:
    """Against diffusers: what its own casting to FP8 leaves alone under the model's declaration is kept here."""
    model = make_model(class_name, device="cpu")
    plan = _plan(model)
    declared = tuple(model._skip_layerwise_casting_patterns)  # type: ignore[arg-type]
    apply_layerwise_casting(model, torch.float8_e4m3fn, torch.float32, skip_modules_pattern=declared)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    skipped = {name for name, module in linears.items() if module.weight.dtype == torch.float32}
    assert skipped
    assert all(isinstance(plan[name], Kept) for name in skipped)
    by_declaration = {name for name, layer in plan.items() if reason_of(layer).startswith("diffusers: ")}
    assert by_declaration == {n for n in skipped if not reason_of(plan[n]).startswith(("outside", "modulation"))}


def test_modules_that_diffusers_loads_in_float32_are_kept(make_model: ModelMaker, tmp_path: Path) -> None:
    """Against diffusers: what `from_pretrained(torch_dtype=bfloat16)` leaves in float32 is kept here."""
    make_model("WanTransformer3DModel", device="cpu").save_pretrained(tmp_path)  # type: ignore[operator]
    model = diffusers.WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    high = {name for name, module in linears.items() if module.weight.dtype == torch.float32}
    assert high
    assert all(isinstance(_plan(model)[name], Kept) for name in high)


class Declaring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2, 2))
        self.normal = nn.Linear(2, 2)
        self.norm = nn.Linear(2, 2)
        self.body = nn.ModuleDict({"head": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    ("attribute", "value", "kept"),
    [
        ("_skip_layerwise_casting_patterns", ("norm",), {"normal", "norm"}),
        ("_skip_layerwise_casting_patterns", ("^head$",), {"head.0"}),
        ("_skip_layerwise_casting_patterns", None, set()),
        ("_keep_in_fp32_modules", ["norm"], {"norm"}),
        ("_keep_in_fp32_modules", ["head"], {"head.0", "body.head"}),
        ("_keep_in_fp32_modules", ["bod"], set()),
    ],
)
def test_declarations_are_read_as_diffusers_reads_them(attribute: str, value: object, kept: set[str]) -> None:
    model = Declaring()
    setattr(model, attribute, value)
    reasons = {name: reason_of(layer) for name, layer in _plan(model).items() if reason_of(layer)}
    assert set(reasons) == kept
    assert all(reason.startswith(f"diffusers: {attribute} has '") for reason in reasons.values())
