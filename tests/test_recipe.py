"""Recipes: reading YAML, exact errors, and the hash of what a recipe means."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import RecipeError
from quant.formats.scheme import SCHEMES
from quant.recipe import Recipe
from quant.recipe_parts import Algorithm, Calibration, KeepBudget, Sparsity

FULL = r"""
version: 1
summary: INT8 with FP8 at both ends
components: [transformer, transformer_2]
groups:
  - {targets: ["re:^blocks\\.(0|5)\\..*"], scheme: fp8_dynamic}
  - targets: [Linear]
    scheme:
      weights: {num_bits: 8, type: int, strategy: channel}
      input_activations: {num_bits: 8, type: int, strategy: token, dynamic: true}
    algorithm: {name: smoothquant, alpha: 0.5}
ignore: ["re:^proj_out$"]
keep_edge_blocks: 0.1
calibration: {samples: 64, steps: 20, seed: 3, rows: 128}
"""
SHORT = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}]}


def with_group(**fields: Any) -> dict[str, Any]:
    return {**SHORT, "groups": [{"targets": ["Linear"], "scheme": "W8A8", **fields}]}


def test_reads_every_key() -> None:
    recipe = Recipe.from_yaml(FULL, "full")
    assert recipe.name == "full"
    assert recipe.summary == "INT8 with FP8 at both ends"
    assert recipe.components == ("transformer", "transformer_2")
    assert [group.targets for group in recipe.groups] == [(r"re:^blocks\.(0|5)\..*",), ("Linear",)]
    assert [group.scheme for group in recipe.groups] == [SCHEMES["FP8_DYNAMIC"], SCHEMES["W8A8"]]
    assert [group.algorithm for group in recipe.groups] == [None, Algorithm("smoothquant", (("alpha", 0.5),))]
    assert recipe.ignore == ("re:^proj_out$",)
    assert recipe.keep_edge_blocks == 0.1
    assert recipe.calibration == Calibration(samples=64, steps=20, seed=3, rows=128)


def test_defaults() -> None:
    recipe = Recipe.from_dict(SHORT)
    assert (recipe.components, recipe.ignore, recipe.keep_edge_blocks) == (None, (), 0.0)
    assert recipe.calibration == Calibration(samples=32, steps=None, seed=0, rows=512)
    assert recipe.groups[0].algorithm is None


@pytest.mark.parametrize("text", [FULL, "version: 1\ngroups: [{targets: [Linear], scheme: FP8, algorithm: max}]"])
def test_a_recipe_survives_its_mapping(text: str) -> None:
    recipe = Recipe.from_yaml(text, "same")
    assert Recipe.from_dict(recipe.to_dict(), "same") == recipe


@given(
    samples=st.integers(1, 10**6),
    steps=st.none() | st.integers(1, 1000),
    seed=st.integers(0, 2**63 - 1),
    rows=st.integers(1, 10**6),
    edge=st.floats(0, 0.5),
    ignore=st.lists(st.text("abc._", min_size=1), max_size=3),
    components=st.none() | st.lists(st.text("abc_", min_size=1), min_size=1, max_size=2),
)
def test_every_valid_recipe_survives_its_mapping(ignore: Any, edge: Any, components: Any, **calibration: Any) -> None:
    body = {**SHORT, "ignore": ignore, "keep_edge_blocks": edge, "components": components, "calibration": calibration}
    recipe = Recipe.from_dict(body)
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert again.sha256 == recipe.sha256


def test_an_algorithm_may_be_a_bare_name() -> None:
    assert Recipe.from_dict(with_group(scheme="FP8", algorithm="max")).groups[0].algorithm == Algorithm("max")


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe.from_dict(SHORT).summary = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "here: must be a mapping with the keys version, "),
        (None, "here: must be a mapping"),
        ({**SHORT, "group": []}, "here: unknown key 'group'; known: version, "),
        ({"groups": SHORT["groups"]}, "here: version is None; this release reads 1"),
        ({**SHORT, "version": 2}, "here: version is 2; this release reads 1"),
        ({**SHORT, "version": "1"}, "here: version is '1'; this release reads 1"),
        ({**SHORT, "version": 1.0}, "here: version is 1.0; this release reads 1"),
        ({**SHORT, "version": True}, "here: version is True; this release reads 1"),
        (with_group(algorithm={"name": "gptq", "damping": [0.1]}), "here: groups[0].algorithm.damping: must be a numb"),
        ({**SHORT, "calibration": {"seed": 2**63}}, "here: calibration.seed: must be a whole number of at most"),
        ({**SHORT, "calibration": {"rows": 2**31}}, "here: calibration.rows: must be a whole number of at most"),
        ({**SHORT, "calibration": {"hessian_gb": float("inf")}}, "here: calibration.hessian_gb: must be a number abov"),
        ({**SHORT, "calibration": {"hessian_gb": 10**400}}, "here: calibration.hessian_gb: must be a number above 0"),
        ({**SHORT, "calibration": {"hessian_gb": 0}}, "here: calibration.hessian_gb: must be a number above 0, got 0"),
        ({**SHORT, "calibration": {"timestep_weights": [1, True]}}, "here: calibration.timestep_weights: must be a l"),
        (
            {**SHORT, "calibration": {"inputs": ["original"]}},
            "here: calibration.inputs: must be original or compressed",
        ),
        ({**SHORT, "groups": []}, "here: 'groups' must be a non-empty list"),
        ({**SHORT, "groups": {}}, "here: 'groups' must be a non-empty list"),
        ({**SHORT, "groups": ["Linear"]}, "here: groups[0]: must be a mapping"),
        ({**SHORT, "groups": [*SHORT["groups"], {"scheme": "W8A8"}]}, "here: groups[1]: 'targets' is missing"),  # type: ignore[misc]
        ({**SHORT, "groups": [{"targets": ["Linear"]}]}, "here: groups[0]: 'scheme' is missing"),
        (with_group(sparsity="2:4"), "here: groups[0].sparsity: must be a mapping with the keys structure, method"),
        (
            with_group(sparsity={}),
            "here: groups[0].sparsity.method: must be one of magnitude, wanda, sparsegpt, search",
        ),
        (with_group(sparsity={"method": "search", "structure": "4:8"}), "here: groups[0].sparsity.structure: must be"),
        (with_group(scheme="UNQUANTIZED"), "here: groups[0].scheme: UNQUANTIZED does nothing without sparsity"),
        (with_group(scheme="W4A8", sparsity={"method": "wanda"}), "here: groups[0].sparsity: no op runs 2:4 with W4A8"),
        (with_group(scheme="FP8_BLOCK", sparsity={"method": "wanda"}), "here: groups[0].sparsity: no op runs 2:4 with"),
        (with_group(misfits="drop"), "here: groups[0].misfits: must be one of refuse, keep, adapt, next, got 'drop'"),
        (with_group(targets=[]), "here: groups[0].targets: must be a non-empty list of names"),
        (with_group(targets="Linear"), "here: groups[0].targets: must be a non-empty list of names"),
        (with_group(targets=["Linear", "re:("]), "here: groups[0].targets[1]: 're:(' is not a regular expression"),
        (with_group(scheme="W9A9"), "here: groups[0].scheme: unknown scheme 'W9A9'"),
        (with_group(scheme=8), "here: groups[0].scheme: must be a name or a mapping, got 8"),
        (with_group(scheme={}), "here: groups[0].scheme: 'weights' is missing"),
        (with_group(algorithm=["max"]), "here: groups[0].algorithm: must be a dict, got ['max']"),
        (with_group(algorithm={"alpha": 1}), "here: groups[0].algorithm.name: must be a str, got None"),
        ({**SHORT, "summary": 1}, "here: summary: must be a str, got 1"),
        ({**SHORT, "components": []}, "here: components: must be a non-empty list of names"),
        ({**SHORT, "components": "transformer"}, "here: components: must be a non-empty list of names"),
        ({**SHORT, "components": ["vae", "../vae"]}, "here: components: '../vae' is not a plain folder name"),
        ({**SHORT, "ignore": "proj_out"}, "here: ignore: must be a list, got 'proj_out'"),
        ({**SHORT, "ignore": ["a", ""]}, "here: ignore[1]: a pattern must be a non-empty string"),
        ({**SHORT, "calibration": None}, "here: calibration: must be a mapping with the keys samples, steps"),
        ({**SHORT, "calibration": {"prompts": 1}}, "here: calibration: unknown key 'prompts'"),
    ],
)
def test_refuses_and_names_the_key(body: object, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.from_dict(body, "here")
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_a_value_of_any_size_makes_a_short_message() -> None:
    """Aliases are shared while YAML is read; a message that wrote them out would be as long as what they stand for."""
    levels = "&a [x,x,x,x,x,x,x,x,x,x]"
    for this, before in zip("bcd", "abc", strict=True):
        levels = f"&{this} [{levels},{','.join([f'*{before}'] * 9)}]"
    for key in ("summary", "components", "ignore", "version", "keep_edge_blocks", "calibration", "keep_budget"):
        with pytest.raises(RecipeError, match="here") as error:
            Recipe.from_yaml(f"groups: [{{targets: [Linear], scheme: W8A16}}]\n{key}: {levels}\n", "here")
        assert len(str(error.value)) < 400, key


@pytest.mark.parametrize("edge", [-0.01, 0.51, True, False, "0.1", None, float("nan"), [0.1]])
def test_refuses_a_share_of_edge_blocks_outside_its_range(edge: object) -> None:
    with pytest.raises(RecipeError, match=r"^here: keep_edge_blocks is a share of the blocks from 0 to 0\.5, got "):
        Recipe.from_dict({**SHORT, "keep_edge_blocks": edge}, "here")


def test_the_ends_of_a_range_are_in_it() -> None:
    ends = {
        "keep_edge_blocks": 0.5,
        "keep_budget": {"share": 1},
        "calibration": {"timestep_weights": [0, 1], "inputs": "compressed"},
    }
    recipe = Recipe.from_dict({**SHORT, **ends})
    assert recipe.keep_edge_blocks == 0.5
    assert recipe.keep_budget == KeepBudget(1)
    assert recipe.calibration.timestep_weights == (0, 1)


@pytest.mark.parametrize("number", [-1, 0, 1.5, "8", True, None])
@pytest.mark.parametrize(("key", "least"), [("samples", 1), ("steps", 1), ("seed", 0), ("rows", 1)])
def test_refuses_calibration_numbers(key: str, least: int, number: object) -> None:
    body = {**SHORT, "calibration": {key: number}}
    if (key, number) in (("seed", 0), ("steps", None)):
        assert getattr(Recipe.from_dict(body).calibration, key) == number
        return
    with pytest.raises(RecipeError, match=rf"^here: calibration\.{key}: must be a whole number of at least {least}"):
        Recipe.from_dict(body, "here")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 1\nversion: 1\n", "here: line 2: not valid YAML: key 'version' is given twice"),
        ("version: 1\ncalibration:\n  seed: 1\n  seed: 2\n", "here: line 4: not valid YAML: key 'seed' is given twice"),
        ("version: 1\ngroups: [", "here: line 2: not valid YAML: "),
        ("a: b: c", "here: line 1: not valid YAML: "),
        ("? [a, b]\n: 1", "here: line 1: not valid YAML: a key must be a word"),
        ("? {a: b}\n: 1", "here: line 1: not valid YAML: a key must be a word"),
        ("version: !!python/object/apply:os.getcwd []", "here: line 1: not valid YAML: could not determine a construc"),
        ("a: &a [*a]", "here: line 1: not valid YAML: an alias holds itself"),
        ("a: 1\n---\nb: 2", "here: line 2: not valid YAML: but found another document"),
        ("version: \x00", "here: not valid YAML: "),
        ("version: 1\nsummary: !!int a", "here: line 2: not valid YAML: 'a' is no int"),
        ("version: 1\nsummary: 2001-99-99", "here: 'groups' must be a non-empty list"),
        ("", "here: must be a mapping"),
    ],
)
def test_refuses_yaml_and_names_the_line(text: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.from_yaml(text, "here")
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FULL, encoding="utf-8")
    assert Recipe.from_file(path) == Recipe.from_yaml(FULL, str(path))
    assert Recipe.from_file(str(path)).name == str(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        Recipe.from_file(path)
    assert str(error.value).startswith(f"{path}: cannot be read as a recipe: ")


@pytest.mark.parametrize(
    "same",
    [
        "# a comment\n" + FULL,
        FULL.replace("summary: INT8 with FP8 at both ends", "summary: other words"),
        FULL.replace("{name: smoothquant, alpha: 0.5}", "{alpha: 0.5, name: smoothquant}"),
        FULL.replace("fp8_dynamic", "FP8_DYNAMIC"),
        FULL.replace("strategy: channel}", "strategy: channel, symmetric: true}"),
    ],
)
def test_the_hash_ignores_what_changes_nothing(same: str) -> None:
    assert same != FULL
    assert Recipe.from_yaml(same).sha256 == Recipe.from_yaml(FULL, "other name").sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fp8_dynamic", "FP8"),
        ("alpha: 0.5", "alpha: 0.6"),
        ("(0|5)", "(0|4)"),
        ("[transformer, transformer_2]", "[transformer]"),
        ("^proj_out$", "^proj_in$"),
        ("0.1", "0.2"),
        ("samples: 64", "samples: 65"),
        ("seed: 3", "seed: 4"),
    ],
)
def test_the_hash_changes_with_the_meaning(old: str, new: str) -> None:
    assert Recipe.from_yaml(FULL.replace(old, new)).sha256 != Recipe.from_yaml(FULL).sha256


def test_options_with_odd_keys_are_refused_by_the_algorithm() -> None:
    with pytest.raises(RecipeError, match=r"^recipe: groups\[0\]\.algorithm: unknown option '1' of max; known: none$"):
        Recipe.from_dict(with_group(scheme="FP8", algorithm={"name": "max", 1: 2, "a": 3}))


def test_a_recipe_is_checked_when_it_is_made_whichever_way() -> None:
    group = Recipe.from_dict(with_group()).groups[0]
    for odd in (
        dataclasses.replace(group, algorithm=Algorithm("nonsense")),
        dataclasses.replace(group, sparsity=Sparsity("nonsense")),
    ):
        with pytest.raises(RecipeError, match=r"^recipe: groups\[0\]\..*'nonsense'"):
            Recipe((odd,))
    with pytest.raises(RecipeError, match="unknown algorithm 'nonsense'; known: max, mse, percentile, smoothquant"):
        Recipe.from_dict(with_group(algorithm="nonsense"))


def test_a_keep_budget_is_read_and_written() -> None:
    recipe = Recipe.from_dict({**SHORT, "keep_budget": {"share": 0.05, "scheme": "w8a8", "runs": 2}})
    assert recipe.keep_budget == KeepBudget(0.05, SCHEMES["W8A8"], runs=2)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.sha256 != Recipe.from_dict(SHORT).sha256
    assert Recipe.from_dict(SHORT).keep_budget is None
    short = Recipe.from_dict({**SHORT, "keep_budget": {"share": 0.05}})
    assert short.keep_budget == KeepBudget(0.05, scheme=None, runs=4, steps=5)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({}, "here: keep_budget: 'share' is missing"),
        ({"share": 0}, "here: keep_budget.share: must be a share above 0, up to 1, such as 0.05 for 5%, got 0"),
        ({"share": "5%"}, "here: keep_budget.share: must be a share above 0, up to 1, such as 0.05 for 5%, got '5%'"),
        ({"share": 5}, "here: keep_budget.share: must be a share above 0, up to 1, such as 0.05 for 5%, got 5"),
        ({"share": True}, "here: keep_budget.share: must be a share above 0, up to 1, such as 0.05 for 5%, got True"),
        ({"share": 0.1, "scheme": "FP8"}, "here: keep_budget.scheme: FP8 is not a scheme that needs no data"),
        ({"share": 0.1, "runs": 0}, "here: keep_budget.runs: must be a whole number of at least 1, got 0"),
        ({"share": 0.1, "layers": 3}, "here: keep_budget: unknown key 'layers'; known: share, scheme, runs, steps"),
    ],
)
def test_a_wrong_keep_budget_is_named(budget: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        Recipe.from_dict({**SHORT, "keep_budget": budget}, "here")
    assert str(refused.value) == says
