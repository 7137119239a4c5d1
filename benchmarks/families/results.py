"""The file of results, a cell at a time: an interrupted run goes on where it was."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quant.recipe_files import GENERAL, find_recipe, shipped_recipes

RESULTS = Path(__file__).parent.parent / "results" / "families.json"
#: What the figures depend on, besides this project's own code.
_PACKAGES = ("diffusers", "torch")

Results = dict[str, Any]


def general_recipes() -> list[str]:
    """Names of the recipes for every model."""
    return [name for name in recipe_names() if "/" not in name]


def recipe_names(family: str | None = None) -> list[str]:
    """Names of the recipes for every model, and "family/name" of those tuned for one; for all where None is given."""
    found = []
    for full in shipped_recipes():
        folder, _, name = full.partition("/")
        if folder == GENERAL:
            found.append(name)
        elif family is None or folder == family:
            found.append(full)
    return found


def read(path: Path) -> Results:
    """What was measured under today's conditions, without the cells of recipes that have changed since."""
    now = {
        "versions": {name: version(name) for name in _PACKAGES},
        "recipes": {name: find_recipe(name).sha256 for name in recipe_names()},
    }
    empty = {"conditions": now, "tiny": {}, "real": {}}
    if not path.exists():
        return empty
    found: Results = json.loads(path.read_text(encoding="utf-8"))
    then = found["conditions"]
    if then["versions"] != now["versions"]:
        return empty
    changed = {name for name in now["recipes"] if then["recipes"].get(name) != now["recipes"][name]}
    for part in ("tiny", "real"):
        for model in found[part].values():
            cells = model["recipes"].items()
            model["recipes"] = {name: cell for name, cell in cells if name in now["recipes"] and name not in changed}
    return {**found, "conditions": now}


def write(path: Path, results: Results) -> None:
    """Puts the results in the file's place in one step."""
    ordered = {**results, "tiny": dict(results["tiny"]), "real": dict(results["real"])}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
