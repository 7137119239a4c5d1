"""Which group takes a layer: by role, over a keep list, and where a shape does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from quant.calibration.layer_plan import LayerPlan, Planned, layer_plan
from quant.errors import RecipeError
from quant.families import table
from quant.families.base import Family
from quant.recipe import Recipe
from tests.calibration.plans import reason_of

LINEAR = {"targets": ["Linear"], "scheme": "W8A8"}
MODULATION = {"targets": ["role:modulation"], "scheme": "W8A16"}
KEPT = "modulation (adaLN): kept unless a group targets role:modulation"


class Block(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.adaln = nn.Linear(128, 24)
        self.q = nn.Linear(k, 8)
        self.router = nn.Linear(k, 8)
        self.ff = nn.Sequential(nn.Linear(k, 8), nn.Linear(256, 8))


class Toy(nn.Module):
    """Three blocks, whose layers have 256 columns but for some of the last one; and one layer at each end."""

    _skip_layerwise_casting_patterns = ("adaln",)

    def __init__(self, odd: int = 256) -> None:
        super().__init__()
        self.adaln_in = nn.Linear(128, 8)
        self.blocks = nn.ModuleList([Block(256), Block(256), Block(odd)])
        self.out = nn.Linear(256, 8)


FAMILY = Family(
    name="toys",
    classes=("Toy",),
    blocks=r"blocks\.(\d+)\.",
    keep=((r"\.router$", "chooses"),),
    roles=(("modulation", r"adaln"), ("feed_forward", r"\.ff\.|\.router$")),
)


@pytest.fixture(autouse=True)
def _family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAMILIES", (FAMILY,))


def plan_of(*groups: dict[str, Any], odd: int = 256, **fields: Any) -> dict[str, LayerPlan]:
    recipe = Recipe.from_dict({"version": 1, "groups": list(groups), **fields}, "r.yaml")
    with torch.device("meta"):
        return {layer.name: layer for layer in layer_plan(Toy(odd), recipe)}


def schemes(plan: dict[str, LayerPlan], *names: str) -> list[str | None]:
    found = [plan[name] for name in names]
    return [layer.group.scheme.name if isinstance(layer, Planned) else None for layer in found]


def test_a_role_is_one_of_layers_inside_the_blocks() -> None:
    plan = plan_of({"targets": ["role:feed_forward"], "scheme": "FP8_DYNAMIC"}, MODULATION, LINEAR)
    taken = {name: layer.group.scheme.name for name, layer in plan.items() if isinstance(layer, Planned)}
    block = {"adaln": "W8A16", "q": "W8A8", "ff.0": "FP8_DYNAMIC", "ff.1": "FP8_DYNAMIC"}
    assert taken == {f"blocks.{i}.{name}": scheme for i in range(3) for name, scheme in block.items()}
    assert reason_of(plan["adaln_in"]) == reason_of(plan["out"]) == "outside the repeated blocks (toys)"


def test_modulation_is_kept_with_what_would_change_that() -> None:
    assert reason_of(plan_of(LINEAR)["blocks.1.adaln"]) == KEPT


@pytest.mark.parametrize(
    ("target", "layer", "listed"),
    [
        ("role:modulation", "blocks.0.adaln", "modulation (adaLN)"),
        ("blocks.0.adaln", "blocks.0.adaln", "modulation (adaLN)"),
        (r"re:blocks\.\d\.adaln", "blocks.0.adaln", "modulation (adaLN)"),
        (r"re:.*adaln.*", "adaln_in", "outside the repeated blocks (toys)"),
        ("out", "out", "outside the repeated blocks (toys)"),
        (r"re:.*\.router", "blocks.1.router", "toys: chooses"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_target_that_names_nothing_but_kept_layers_takes_them(
    target: str, layer: str, listed: str, first: bool
) -> None:
    """In whichever place its group stands: one before that names layers in general takes no kept layer."""
    named = {"targets": [target], "scheme": "FP8_DYNAMIC"}
    found = plan_of(*((named, LINEAR) if first else (LINEAR, named)))[layer]
    assert isinstance(found, Planned) and found.group.scheme.name == "FP8_DYNAMIC"
    assert found.note == f"{listed}: quantized because the recipe names it ('{target}')"


@pytest.mark.parametrize("target", ["Linear", "re:.*", r"re:blocks\..*", "re:.*(adaln|q)", "role:feed_forward"])
def test_a_target_that_is_about_layers_in_general_takes_none_of_a_keep_list(target: str) -> None:
    plan = plan_of({"targets": [target], "scheme": "FP8_DYNAMIC"})
    assert schemes(plan, "adaln_in", "out", "blocks.0.adaln", "blocks.0.router") == [None] * 4
    assert reason_of(plan["blocks.0.adaln"]) == KEPT
    assert all(layer.note == "" for layer in plan.values() if isinstance(layer, Planned))


def test_the_recipes_own_exceptions_win_over_its_targets() -> None:
    plan = plan_of(MODULATION, LINEAR, ignore=["blocks.1.adaln"], keep_edge_blocks=0.3)
    assert [reason_of(plan[f"blocks.{i}.adaln"]) for i in range(3)] == [
        "edge block 0 of 3 (keep_edge_blocks)",
        "ignored by the recipe ('blocks.1.adaln')",
        "edge block 2 of 3 (keep_edge_blocks)",
    ]
    assert reason_of(plan_of(LINEAR, ignore=["role:feed_forward"])["blocks.0.ff.1"]).startswith("ignored by the recipe")


def test_a_layer_that_would_lose_something_is_kept_though_it_is_named() -> None:
    class Own(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    model = nn.Sequential(Own(2, 2), nn.Linear(2, 2))
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["0", "1"], "scheme": "W8A8"}]})
    assert reason_of(layer_plan(model, recipe)[0]) == "a Own: its own forward would be lost"


def test_a_model_may_have_no_layer_of_a_role() -> None:
    attention = {"targets": ["role:attention"], "scheme": "FP8_DYNAMIC"}
    assert plan_of(attention, LINEAR, ignore=["role:attention"]) == plan_of(LINEAR)
    with pytest.raises(RecipeError, match=r"r\.yaml: quantizes nothing in model: it has no layer for .*role:attention"):
        plan_of(attention)
    with pytest.raises(RecipeError, match=r"groups\[0\]\.targets: 'out_' matches no layer"):
        plan_of({"targets": ["role:attention", "out_"], "scheme": "W8A8"})


def test_a_role_that_an_earlier_group_takes_whole_is_a_mistake() -> None:
    with pytest.raises(RecipeError, match=r"groups\[1\]: every layer that .* is kept or taken"):
        plan_of(LINEAR, {"targets": ["role:feed_forward"], "scheme": "FP8_DYNAMIC"})
    with pytest.raises(RecipeError, match=r"groups\[1\]: an earlier group takes every layer"):
        plan_of(LINEAR, {"targets": [r"re:.*\.q"], "scheme": "FP8_DYNAMIC"})


@pytest.mark.parametrize(
    ("odd", "scheme", "note"),
    [
        (256, "W4A16", ""),
        (320, "W4A16_G64", "groups of 128 do not fit in_features 320: groups of 64 used"),
        (96, "W4A16_G32", "groups of 128 do not fit in_features 96: groups of 32 used"),
        (100, None, "groups of 128 do not fit in_features 100; strategy 'channel' would"),
    ],
)
def test_the_largest_groups_that_fit_are_used(odd: int, scheme: str | None, note: str) -> None:
    plan = plan_of({"targets": ["Linear"], "scheme": "W4A16", "misfits": "adapt"}, odd=odd)
    layer = plan["blocks.2.q"]
    assert schemes(plan, "blocks.1.q", "blocks.2.q") == ["W4A16", scheme]
    assert (layer.note if isinstance(layer, Planned) else layer.reason) == note


def test_groups_given_are_the_largest() -> None:
    group = {"targets": ["Linear"], "scheme": "W4A16_G64", "misfits": "adapt"}
    assert schemes(plan_of(group, odd=96), "blocks.1.q", "blocks.2.q") == ["W4A16_G64", "W4A16_G32"]


def test_what_does_not_fit_2_4_is_left_to_the_next_group() -> None:
    sparse = {"targets": ["role:feed_forward"], "scheme": "W8A8", "sparsity": {"method": "magnitude"}}
    plan = plan_of({**sparse, "misfits": "next"}, LINEAR, odd=6)
    first, last = plan["blocks.0.ff.0"], plan["blocks.2.ff.0"]
    assert isinstance(first, Planned) and first.group.sparsity is not None and first.note == ""
    assert isinstance(last, Planned) and last.group.sparsity is None
    assert last.note == "2:4 needs in_features a multiple of 4, got 6: the next group takes it"
    alone = plan_of({**sparse, "misfits": "next"}, odd=6)
    assert reason_of(alone["blocks.2.ff.0"]) == "2:4 needs in_features a multiple of 4, got 6"
    with pytest.raises(RecipeError, match=r"'blocks\.2\.ff\.0' \[8, 6\]: 2:4 needs .*; or say 'misfits: keep'"):
        plan_of(sparse, LINEAR, odd=6)


def test_a_group_none_of_whose_layers_fit_says_so() -> None:
    sparse = {"targets": [r"re:blocks\.2\.ff\.0"], "sparsity": {"method": "magnitude"}, "misfits": "next"}
    with pytest.raises(RecipeError, match=r"groups\[0\]: every layer .* is left to another \('blocks\.2\.ff\.0': 2:4"):
        plan_of(sparse, LINEAR, odd=6)
