"""What a recipe's statistics are gathered from, and that its documentation says so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from quant.calibration.way import not_recorded, takes_calls
from quant.recipe_files import find_recipe

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"
ROWS = re.findall(r"^\| `([a-z0-9-]+)` \|[^|]*\|[^|]*\| ([^|]*) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)


def test_documentation_says_which_recipes_take_recorded_calls() -> None:
    assert len(ROWS) > 15
    assert {name for name, passes in ROWS if passes.startswith("recorded")} == {
        name for name, _ in ROWS if takes_calls(find_recipe(name, "wan"))
    }


def test_inputs_from_compressed_blocks_take_calls_whatever_is_gathered() -> None:
    recipe = find_recipe("fp8-static", "wan")
    assert not takes_calls(recipe)
    assert takes_calls(replace(recipe, calibration=replace(recipe.calibration, inputs="compressed")))


@pytest.mark.parametrize(
    ("components", "reason"),
    [
        (["transformer", "transformer_2"], None),
        (["transformer", "vae"], "'vae' is no denoiser, and only calls of denoisers are recorded"),
    ],
)
def test_only_denoisers_are_recorded(components: list[str], reason: str | None) -> None:
    assert not_recorded(components) == reason
