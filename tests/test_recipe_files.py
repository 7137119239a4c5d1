"""Shipped recipes: every one parses and says what it does; finding one by name, folder or path."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant.errors import RecipeError
from quant.recipe import Recipe
from quant.recipe_files import GENERAL, find_recipe, recipe_text, shipped_recipes

SOURCES = Path(__file__).parent.parent / "recipes"
SHIPPED = shipped_recipes()


def test_every_file_of_the_folder_is_shipped() -> None:
    files = {path.relative_to(SOURCES).with_suffix("").as_posix(): path for path in SOURCES.rglob("*.yaml")}
    assert files.keys() == SHIPPED.keys()
    assert {name: path.read_text(encoding="utf-8") for name, path in files.items()} == SHIPPED


def test_general_recipes_come_first() -> None:
    rooms = [name.partition("/")[0] for name in SHIPPED]
    assert rooms[0] == GENERAL
    assert rooms == sorted(rooms, key=lambda room: (room != GENERAL, room))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_parses_and_has_a_summary(name: str) -> None:
    recipe = Recipe.from_yaml(SHIPPED[name], name)
    assert len(recipe.summary) > 10
    assert Recipe.from_dict(recipe.to_dict(), name) == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_a_static_input_comes_with_an_algorithm_that_finds_its_range(name: str) -> None:
    for group in find_recipe(name).groups:
        assert group.algorithm is not None or not group.scheme.has_static_input


@pytest.mark.parametrize(
    ("name", "schemes"),
    [("fp8-dynamic", ["FP8_DYNAMIC"]), ("fp8-static", ["FP8"]), ("w8a8", ["W8A8"])],
)
def test_the_general_recipes(name: str, schemes: list[str]) -> None:
    recipe = find_recipe(name)
    assert recipe.name == f"general/{name}"
    assert [group.scheme.name for group in recipe.groups] == schemes
    assert find_recipe(f"general/{name}") == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_the_text_of_a_recipe_is_the_files(name: str) -> None:
    assert recipe_text(name) == recipe_text(name.partition("/")[2], name.partition("/")[0]) == (name, SHIPPED[name])


def test_a_family_has_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SHIPPED["general/w8a8"].replace("seed: 0", "seed: 7")
    monkeypatch.setattr("quant.recipe_files.shipped_recipes", lambda: {**SHIPPED, "toy/w8a8": own})
    assert find_recipe("w8a8", "toy").name == "toy/w8a8"
    assert find_recipe("w8a8", "toy").calibration.seed == 7
    assert find_recipe("fp8-dynamic", "toy").name == "general/fp8-dynamic"
    assert find_recipe("w8a8", "other").name == "general/w8a8"
    assert find_recipe("general/w8a8", "toy").name == "general/w8a8"


def test_a_recipe_is_taken_as_it_is() -> None:
    recipe = Recipe.from_yaml(SHIPPED["general/w8a8"])
    assert find_recipe(recipe) is recipe


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_by_path(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_text(SHIPPED["general/w8a8"], encoding="utf-8")
    assert find_recipe(path) == find_recipe(str(path)) == Recipe.from_file(path)


def test_a_path_is_never_a_shipped_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"w8a8\.yaml: cannot be read as a recipe"):
        find_recipe(tmp_path / "w8a8.yaml")


@pytest.mark.parametrize("name", ["w4a4", "", "general", "general/", "../recipes/general/w8a8", "mine.txt"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(RecipeError) as error:
        find_recipe(name)
    message = str(error.value)
    assert message.startswith(f"unknown recipe '{name}'; ")
    assert all(known.partition("/")[2] in message for known in SHIPPED if known.startswith("general/"))
    assert "edges" not in message  # of one family only
    assert message.endswith("or give the path of a .yaml file")


@pytest.mark.parametrize(
    ("name", "family", "says"),
    [
        ("w4a8-edges", "hunyuan", "recipe 'w4a8-edges' is for wan, and this model is hunyuan; wan/w4a8-edges takes it"),
        ("w4a8-edges", "generic", "recipe 'w4a8-edges' is for wan, and this model is of no known family; wan"),
        ("w4a8-edges", "general", "recipe 'w4a8-edges' is for wan; wan/w4a8-edges takes it anyway"),
        ("W8A9", "wan", "unknown recipe 'W8A9'; did you mean w8a8? known: "),
        ("wan/w4a8-edge", "general", "unknown recipe 'wan/w4a8-edge'; did you mean wan/w4a8-edges? known: "),
        ("x" * 9000, "wan", "unknown recipe 'xxxx"),
    ],
)
def test_a_name_that_is_not_for_this_model_is_explained(name: str, family: str, says: str) -> None:
    with pytest.raises(RecipeError) as error:
        find_recipe(name, family)
    assert str(error.value).startswith(says) and len(str(error.value)) < 700
    assert find_recipe("wan/w4a8-edges", family).name == "wan/w4a8-edges"
