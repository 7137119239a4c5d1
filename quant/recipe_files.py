"""The recipes that come with the library, found by name: `general/` for every model, a folder for each family."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from quant.errors import RecipeError
from quant.recipe import Recipe
from quant.text import shown

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
    raise RecipeError(_unknown(recipe, family, list(shipped)))


def _unknown(recipe: str, family: str, shipped: Sequence[str]) -> str:
    """Why there is no such recipe for a family, and what would be right."""
    of_others = [name for name in shipped if name.partition("/")[2] == recipe]
    if of_others:
        owners = ", ".join(name.partition("/")[0] for name in of_others)
        this = "of no known family" if family == "generic" else family
        model = "" if family == GENERAL else f", and this model is {this}"
        return f"recipe {shown(recipe)} is for {owners}{model}; {of_others[0]} takes it anyway"
    usable = [name.partition("/")[2] for name in shipped if name.partition("/")[0] in (GENERAL, family)]
    close = difflib.get_close_matches(recipe[:100].lower(), [*usable, *shipped], n=1)
    known = f"known: {', '.join(dict.fromkeys(usable))}; or give the path of a .yaml file"
    return f"unknown recipe {shown(recipe)}; {f'did you mean {close[0]}? ' if close else ''}{known}"


@dataclass(frozen=True)
class Expected:
    """What a recipe was measured to cost on the project's own example.

    Attributes:
        share_of_bf16: stored bytes of the quantized component, as a share of what it takes in bf16.
        psnr_mean, psnr_worst: dB over its videos, against the original's.
    """

    share_of_bf16: float
    psnr_mean: float
    psnr_worst: float


def expected_quality(recipe: Recipe) -> Expected | None:
    """What was measured of a shipped recipe; None for any other, and for one that was not measured as it is."""
    text = resources.files("quant.recipes").joinpath("expected.json").read_text(encoding="utf-8")
    found = json.loads(text).get(recipe.sha256)
    if found is None:
        return None
    return Expected(found["share_of_bf16"], found["psnr_mean"], found["psnr_worst"])
