"""The recipes that come with the library, found by name: `general/` for every model, a folder for each family."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from quant.errors import RecipeError
from quant.recipe import Recipe

GENERAL = "general"


def shipped_recipes() -> dict[str, str]:
    """ "family/name" -> YAML text, general ones first."""
    root = resources.files("quant.recipes")
    found = {
        f"{folder.name}/{file.name.removesuffix('.yaml')}": file.read_text(encoding="utf-8")
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith(GENERAL), item[0])))


def find_recipe(recipe: str | Path | Recipe, family: str = GENERAL) -> Recipe:
    """A recipe by name, by "family/name", by the path of a YAML file, or as it is.

    Args:
        recipe: what the user gave. A name takes the family's own recipe where there is one, else the general.
        family: the model's family, such as "wan".

    Raises:
        RecipeError: no such recipe or file, or one that is not valid.
    """
    if isinstance(recipe, Recipe):
        return recipe
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        return Recipe.from_file(path)
    name, text = recipe_text(str(recipe), family)
    return Recipe.from_yaml(text, name)


def recipe_text(recipe: str, family: str = GENERAL) -> tuple[str, str]:
    """The full name and the YAML text of a shipped recipe; arguments and errors as `find_recipe`."""
    shipped = shipped_recipes()
    for name in (recipe, f"{family}/{recipe}", f"{GENERAL}/{recipe}"):
        if name in shipped:
            return name, shipped[name]
    names = ", ".join(dict.fromkeys(name.partition("/")[2] for name in shipped))
    raise RecipeError(f"unknown recipe '{recipe}'; known: {names}; or give the path of a .yaml file")
