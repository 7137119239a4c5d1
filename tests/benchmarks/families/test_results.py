"""The file of results: what is kept of it, and that docs/families.md speaks of every model."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.families.models import MODELS
from benchmarks.families.results import RESULTS, read, write


def test_cells_of_changed_recipes_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    results = read(path)
    cells = {"w8a8": {"error": 0.1}, "w4a8": {"error": 0.2}, "gone": {"error": 0.3}}
    results["tiny"]["a"] = {"cls": "A", "recipes": cells}
    results["conditions"]["recipes"]["general/w4a8"] = "of another recipe"
    write(path, results)
    assert read(path)["tiny"]["a"]["recipes"] == {"w8a8": {"error": 0.1}}


def test_other_versions_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    results = read(path)
    results["tiny"]["a"] = {"cls": "A", "recipes": {}}
    results["conditions"]["versions"]["torch"] = "2.0"
    write(path, results)
    assert read(path)["tiny"] == {}


def test_a_changed_recipe_of_a_family_counts_for_its_models_alone(tmp_path: Path) -> None:
    path = tmp_path / "families.json"
    results = read(path)
    for name, cls in (("a", "HunyuanVideoTransformer3DModel"), ("b", "MochiTransformer3DModel")):
        results["real"][name] = {"cls": cls, "recipes": {"w4a16-gptq": {}}}
    results["conditions"]["recipes"]["hunyuan-video/w4a16-gptq"] = "of another recipe"
    write(path, results)
    found = read(path)["real"]
    assert (found["a"]["recipes"], found["b"]["recipes"]) == ({}, {"w4a16-gptq": {}})


def test_every_model_is_in_the_results() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert set(found["tiny"]) == {model.name for model in MODELS}
    assert set(found["real"]) == {name for model in MODELS for name in model.real}
