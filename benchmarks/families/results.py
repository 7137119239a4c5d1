"""The file of results, a cell at a time: an interrupted run goes on where it was."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant.families.table import family_name
from quant.recipe_files import GENERAL, find_recipe, recipe_text, shipped_recipes

RESULTS = Path(__file__).parent.parent / "results" / "families.json"
#: What the figures depend on, besides this project's own code.
_PACKAGES = ("diffusers", "torch")

Results = dict[str, Any]


def general_recipes() -> list[str]:
    """Names of the recipes for every model; a family may have its own under the same name, which its models get."""
    return [name.partition("/")[2] for name in shipped_recipes() if name.startswith(f"{GENERAL}/")]


def read(path: Path) -> Results:
    """Return what was measured under today's conditions, without the cells of recipes that have changed since."""
    now = {
        "versions": {name: version(name) for name in _PACKAGES},
        "recipes": {name: find_recipe(name).sha256 for name in shipped_recipes()},
    }
    empty = {"conditions": now, "tiny": {}, "real": {}}
    if not path.exists():
        return empty
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    then = found["conditions"]
    if then["versions"] != now["versions"]:
        return empty
    for part in ("tiny", "real"):
        for model in found[part].values():
            family = family_name(model["cls"])
            full = {name: recipe_text(name, family)[0] for name in general_recipes()}
            same = {name for name, each in full.items() if then["recipes"].get(each) == now["recipes"][each]}
            model["recipes"] = {name: cell for name, cell in model["recipes"].items() if name in same}
    return {**found, "conditions": now}


def write(path: Path, results: Results) -> None:
    """Puts the results in the file's place in one step."""
    ordered = {**results, "tiny": dict(results["tiny"]), "real": dict(results["real"])}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
