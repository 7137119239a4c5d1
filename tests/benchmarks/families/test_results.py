"""The file of results: what is kept of it, and that docs/families.md speaks of every model."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.families.models import MODELS
from benchmarks.families.results import RESULTS, general_recipes, read, recipe_names, write


def test_cells_of_changed_recipes_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    results = read(path)
    results["tiny"]["a"] = {"recipes": {"w8a8": {"error": 0.1}, "w4a8": {"error": 0.2}, "gone": {"error": 0.3}}}
    results["conditions"]["recipes"]["w4a8"] = "of another recipe"
    write(path, results)
    assert read(path)["tiny"]["a"]["recipes"] == {"w8a8": {"error": 0.1}}


def test_other_versions_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    results = read(path)
    results["tiny"]["a"] = {"recipes": {}}
    results["conditions"]["versions"]["torch"] = "2.0"
    write(path, results)
    assert read(path)["tiny"] == {}


def test_recipes_of_a_family_are_its_own() -> None:
    assert "wan/w4a8-edges" in recipe_names("wan")
    assert recipe_names("mochi") == general_recipes()
    assert set(recipe_names("wan")) <= set(recipe_names())


def test_every_model_is_in_the_results() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert set(found["tiny"]) == {model.name for model in MODELS}
    assert set(found["real"]) == {name for model in MODELS for name in model.real}
