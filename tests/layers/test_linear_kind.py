"""A Linear that is more than weight and bias is kept, with a reason that names what would be lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from quant.calibration.layer_plan import Kept, LayerPlan, Planned, layer_plan
from quant.recipe import Recipe
from tests.calibration.plans import reason_of

RECIPE = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}]}, "r.yaml")


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 3


class Renamed(nn.Linear):
    """Adds nothing that runs."""

    def reset(self) -> None: ...


def _attribute(linear: nn.Linear, name: str, value: object) -> nn.Linear:
    setattr(linear, name, value)
    return linear


def _old_style(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return norm(nn.Linear(8, 8))


def _state_hook(linear: nn.Linear) -> nn.Linear:
    linear.register_state_dict_pre_hook(lambda module, prefix, keep_vars: None)  # type: ignore[no-untyped-call]
    return linear


def plan(model: nn.Module) -> dict[str, LayerPlan]:
    return {layer.name: layer for layer in layer_plan(model, RECIPE)}


KEPT: dict[str, Callable[[], nn.Module]] = {
    "a Scaled: its own forward would be lost": lambda: Scaled(8, 8),
    "its weight is parametrized, which would be lost": lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
    "has a tensor 'weight_g' of its own, which would be lost": lambda: _old_style(nn.utils.weight_norm),
    "has a tensor 'weight_orig' of its own, which would be lost": lambda: _old_style(nn.utils.spectral_norm),
    "has a tensor 'weight_mask' of its own, which would be lost": lambda: prune.l1_unstructured(  # type: ignore[no-untyped-call]
        nn.Linear(8, 8), "weight", 3
    ),
    "has a module 'extra' of its own, which would be lost": lambda: _attribute(nn.Linear(8, 8), "extra", nn.ReLU()),
    "its forward was replaced by a hook, which would be lost": lambda: _attribute(
        nn.Linear(8, 8), "forward", lambda x: x
    ),
    "has an attribute 'table' of its own, which would be lost": lambda: _attribute(nn.Linear(8, 8), "table", [1]),
    "has an attribute 'parts' of its own, which would be lost": lambda: _attribute(
        nn.Linear(8, 8), "parts", (1, nn.ReLU())
    ),
    "has a hook on its state_dict, which would be lost": lambda: _state_hook(nn.Linear(8, 8)),
}


@pytest.mark.parametrize("reason", KEPT)
def test_it_is_kept_and_a_plain_one_is_not(reason: str) -> None:
    found = plan(nn.Sequential(KEPT[reason](), nn.Linear(8, 8)))
    assert isinstance(found["0"], Kept)
    assert reason_of(found["0"]) == reason
    assert isinstance(found["1"], Planned)


def test_what_changes_nothing_is_quantized() -> None:
    plain = nn.Linear(8, 8)
    plain.register_forward_hook(lambda module, args, output: None)
    flagged = _attribute(nn.Linear(8, 8), "_is_hf_initialized", True)
    found = plan(nn.Sequential(Renamed(8, 8), plain, flagged, _attribute(nn.Linear(8, 8), "_note", object())))
    assert all(isinstance(layer, Planned) for layer in found.values())


def test_a_layer_hooked_by_accelerate_names_it() -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    add_hook_to_module(model[0], ModelHook())
    assert reason_of(plan(model)["0"]) == "its forward was replaced by accelerate or diffusers, which would be lost"


def test_weights_that_other_modules_read() -> None:
    model = nn.ModuleDict({"shared": nn.Embedding(8, 8), "head": nn.Linear(8, 8, bias=False), "free": nn.Linear(8, 8)})
    model["head"].weight = model["shared"].weight
    found = plan(model)
    assert reason_of(found["head"]) == "its weight is also that of 'shared'"
    assert isinstance(found["free"], Planned)
    found = plan(nn.TransformerEncoderLayer(8, 2, 16))
    assert reason_of(found["self_attn.out_proj"]) == "its weight is read by nn.MultiheadAttention"
    assert [name for name, layer in found.items() if isinstance(layer, Planned)] == ["linear1", "linear2"]


def test_a_layer_in_two_places_has_one_plan() -> None:
    layer = nn.Linear(8, 8)
    model = nn.ModuleDict({"a": layer, "b": nn.Linear(8, 8), "again": layer})
    groups = [{"targets": ["Linear"], "scheme": "W8A8"}]
    found = layer_plan(model, Recipe.from_dict({"version": 1, "groups": groups, "ignore": ["again"]}, "r.yaml"))
    assert [(layer.name, isinstance(layer, Planned)) for layer in found] == [("a", True), ("b", True), ("again", True)]
