"""A budget keeps what it can afford, and the recipe that is written makes the same checkpoint again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import quant
from quant.calibration.keep_budget import choose
from quant.formats.scheme import SCHEMES
from quant.recipe import Recipe
from quant.recipe_parts import KeepBudget
from tests.api.editing import WEIGHTS
from tests.api.test_sensitivity import body
from tests.tiny_pipeline import PROMPTS, pipeline

items = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.tuples(st.floats(0, 10), st.integers(1, 50)))


@given(items, st.integers(0, 200))
def test_what_is_chosen_fits_and_nothing_else_would(found: dict[str, tuple[float, int]], allowed: int) -> None:
    worth = {name: value for name, (value, _) in found.items()}
    cost = {name: bytes_ for name, (_, bytes_) in found.items()}
    chosen = choose(worth, cost, allowed)
    left = allowed - sum(cost[name] for name in chosen)
    assert len(set(chosen)) == len(chosen) and left >= 0
    assert all(cost[name] > left for name in found if name not in chosen and worth[name] > 0)
    rates = [worth[name] / cost[name] for name in chosen]
    assert rates == sorted(rates, reverse=True)


def test_the_most_per_byte_comes_first() -> None:
    assert choose({"a": 10.0, "b": 9.0, "c": 1.0}, {"a": 100, "b": 10, "c": 10}, 20) == ["b", "c"]
    assert choose({"a": 1.0, "free": 0.5, "useless": 0.0}, {"a": 5, "free": -3, "useless": 1}, 5) == ["free", "a"]


@pytest.mark.parametrize("scheme", [None, "W8A8"])
def test_the_written_recipe_makes_the_same_checkpoint(model_folder: Path, tmp_path: Path, scheme: str | None) -> None:
    budget = KeepBudget(0.05, None if scheme is None else SCHEMES[scheme], runs=1, steps=2)
    recipe = Recipe.from_dict(body(["Linear"]), "int4")
    plain = quant.calibrate(model_folder, recipe, tmp_path / "plain", progress=False)
    made = quant.calibrate(model_folder, recipe, tmp_path / "made", prompts=PROMPTS, keep_budget=budget, progress=False)
    layers = {layer["name"]: layer for layer in made.layers["transformer"]}
    names = made.recipe.ignore if scheme is None else made.recipe.groups[0].targets
    assert names and set(names) < set(layers)
    for name, layer in layers.items():
        if name in names and scheme is None:
            assert layer["scheme"] is None and layer["reason"].startswith("sensitive: alone it moves the prediction by")
        elif name in names:
            assert layer["scheme"] == "W8A8" and 0 < layer["prediction_error"] < 1
        elif name.startswith("blocks."):
            assert layer["scheme"] == "W4A16_G32"
    size = sum(component.nbytes for component in quant.inspect(made.folder).components)
    before = sum(component.nbytes for component in quant.inspect(plain.folder).components)
    assert before < size <= before * 1.05

    again = quant.calibrate(model_folder, tmp_path / "made" / "recipe.yaml", tmp_path / "again", progress=False)
    assert again.recipe.keep_budget is None
    one, other = (load_file(folder / "transformer" / WEIGHTS) for folder in (made.folder, again.folder))
    assert one.keys() == other.keys()
    assert all((one[key] == other[key]).all() for key in one)


def test_what_is_kept_is_what_was_measured_to_matter(model_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.from_dict({**body(["Linear"]), "keep_budget": {"share": 0.05, "runs": 1, "steps": 2}}, "int4")
    made = quant.calibrate(model_folder, recipe, tmp_path / "made", prompts=PROMPTS, progress=False)
    found = quant.Sensitivity.from_json((made.folder / "sensitivity.json").read_text())
    rate = {unit.name: unit.error**2 / (unit.original_bytes - unit.stored_bytes) for unit in found.units}
    best = max(rate, key=lambda name: rate[name])
    assert made.recipe.ignore[0] == best
    manifest = json.loads((made.folder / "quant_manifest.json").read_text())
    assert manifest["recipe"]["body"]["ignore"] == list(made.recipe.ignore)


def test_a_pipeline_in_memory_is_kept_within_its_budget_too() -> None:
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)
    recipe = Recipe.from_dict({**body(["Linear"]), "keep_budget": {"share": 0.05, "runs": 1, "steps": 1}}, "int4")
    settings = quant.GenerationSettings(height=16, width=16, num_frames=5, num_inference_steps=2, max_sequence_length=8)
    made = quant.quantize(pipe, recipe, prompts=PROMPTS[:1], settings=settings, progress=False)
    kept = [layer for layer in made.transformer.quant_record.layers if layer.get("reason", "").startswith("sensitive")]
    assert kept
    with pytest.raises(quant.QuantError, match="keep_budget measures a pipeline on prompts"):
        quant.quantize(pipe.transformer, recipe, forward_loop=lambda model: None)


def test_a_budget_too_small_for_any_layer_says_what_the_smallest_takes(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match=r"the smallest layer would\s+take [\d,]+ more"):
        quant.calibrate(
            model_folder,
            Recipe.from_dict(body(["Linear"])),
            tmp_path / "out",
            prompts=PROMPTS,
            keep_budget=KeepBudget(1e-6, runs=1, steps=1),
            progress=False,
        )
    assert not (tmp_path / "out").exists()
