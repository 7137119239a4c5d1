"""The tables of docs/families.md, one for each question, from `benchmarks/results/families.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.families.results import RESULTS, Results, general_recipes
from quant.eval.tables import Table, as_markdown
from quant.recipe_files import find_recipe

#: Recipes whose sizes are shown: others of the same numbers take the same bytes.
SIZES = ("fp8-dynamic", "w8a8", "w4a8", "w4a16-gptq")
#: The recipe that shows what is kept, and those that show what is 2:4.
KEPT, SPARSE = "w8a8", ("sparse24-fp8", "sparse24-all")
#: Where a model counts as weak: bytes under w4a16-gptq above the one share, 2:4 under sparse24-fp8 below the other.
LARGE, DENSE = 0.34, 0.2
#: Share of bf16 that 4-bit weights take with a 16-bit scale for each 128.
_FOUR_BITS = 4.125 / 16

Cell = dict[str, Any]


def read() -> Results:
    """The file of results as it is."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def models() -> str:
    """Which models, and which pipelines run them."""
    rows, found = [], read()
    for name, tiny in found["tiny"].items():
        family = found["real"].get(name, {}).get("family", "-")
        pipelines = ", ".join(each.removesuffix("Pipeline") for each in tiny["pipelines"])
        known = "by structure" if family == "generic" else family
        rows.append((name, tiny["cls"], known, tiny.get("fresh", "-"), pipelines))
    return _markdown(("model", "class", "family", "loaded by diffusers", "pipelines"), rows, words=5)


def sizes() -> str:
    """What is quantized, and how large the result is."""
    rows = []
    for name, real in read()["real"].items():
        cells = real["recipes"]
        about = cells.get(KEPT, {})
        rows.append(
            (
                name,
                f"{real['parameters'] / 1e9:.1f}B",
                f"{about['layers']} / {about['inputs']}" if "layers" in about else "-",
                _percent(about, "quantized"),
                *(_percent(cells.get(recipe, {}), "bytes") for recipe in SIZES),
            )
        )
    return _markdown(("model", "parameters", "layers / inputs", "quantized", *SIZES), rows)


def sparse() -> str:
    """How much becomes 2:4."""
    rows = []
    for name, real in read()["real"].items():
        found = [real["recipes"].get(recipe, {}) for recipe in SPARSE]
        rows.append((name, *(_percent(cell, key) for cell in found for key in ("sparse", "bytes"))))
    headings = [heading for recipe in SPARSE for heading in (f"{recipe}: 2:4", "of bf16")]
    return _markdown(("model", *headings), rows)


def kept() -> str:
    """What stays as it is, and why."""
    rows = []
    for name, real in read()["real"].items():
        cell = real["recipes"].get(KEPT, {})
        why = "; ".join(f"{row['share']:.1%} in {row['layers']}: {row['reason']}" for row in cell.get("kept", ()))
        rows.append((name, why or cell.get("reason", "-")))
    return _markdown(("model", f"kept under {KEPT}: share of parameters, layers, reason"), rows, words=2)


def errors_8_bits() -> str:
    """Output errors of recipes with 8-bit weights."""
    return _errors(lambda bits, is_sparse: bits == 8 and not is_sparse)


def errors_4_bits() -> str:
    """Output errors of recipes with 4-bit weights."""
    return _errors(lambda bits, is_sparse: bits == 4 and not is_sparse)


def errors_sparse() -> str:
    """Output errors of recipes with 2:4 weights."""
    return _errors(lambda _, is_sparse: is_sparse)


def refused() -> str:
    """Which cells do not work, and why."""
    found = read()
    where: dict[tuple[str, str, str], list[str]] = {}
    for size in ("tiny", "real"):
        for name, row in found[size].items():
            for recipe, cell in row["recipes"].items():
                if "reason" in cell:
                    reason = cell["reason"].partition(f"{find_recipe(recipe).name}: ")[2] or cell["reason"]
                    where.setdefault((recipe, size, reason), []).append(name)
    rows = [(recipe, size, _names(names, len(found[size])), reason) for (recipe, size, reason), names in where.items()]
    fresh = [(name, row["fresh"]) for name, row in found["tiny"].items() if row.get("fresh", "equal") != "equal"]
    rows += [("loaded by diffusers", "tiny", name, why) for name, why in fresh]
    if not rows:
        return "All of them work."
    return _markdown(("recipe", "size", "models", "reason"), rows, words=4)


def weak() -> str:
    """One sentence for each model that a recipe covers badly."""
    lines = []
    for name, real in read()["real"].items():
        small, zeros = (real["recipes"].get(recipe, {}) for recipe in ("w4a16-gptq", SPARSE[0]))
        points = []
        if small.get("bytes", 0) > LARGE:
            points.append(f"w4a16-gptq leaves {small['bytes']:.1%} of its bytes, {_why(small)}")
        if "reason" in zeros:
            points.append(f"{SPARSE[0]} is refused ({zeros['reason']})")
        elif zeros.get("sparse", 1) < DENSE:
            points.append(f"{SPARSE[0]} makes {zeros['sparse']:.1%} of it 2:4")
        if points:
            lines.append(f"- **{name}**: {'; '.join(points)}.")
    return "\n".join(lines) or "None."


def _why(cell: Cell) -> str:
    """What makes a checkpoint of 4-bit weights as large as it is."""
    kept = sum(row["share"] for row in cell["kept"])
    if kept < (cell["bytes"] - _FOUR_BITS) / 2:
        return "mostly in layers that it stores in 8 bits"
    most = max(cell["kept"], key=lambda row: row["share"])
    return f"as it keeps {most['share']:.1%} of the parameters for one reason ({most['reason']})"


def _errors(shown: Callable[[int, bool], bool]) -> str:
    recipes = []
    for name in general_recipes():
        groups = find_recipe(name).groups
        widths = [group.scheme.weights.num_bits for group in groups if group.scheme.weights is not None]
        if shown(min(widths, default=16), any(group.sparsity is not None for group in groups)):
            recipes.append(name)
    rows, tiny = [], read()["tiny"]
    recipes = [name for name in recipes if any(name in row["recipes"] for row in tiny.values())]
    for name, row in tiny.items():
        cells = [row["recipes"].get(recipe, {}) for recipe in recipes]
        rows.append((name, *(_error(cell) for cell in cells)))
    return _markdown(("model", *recipes), rows)


def _error(cell: Cell) -> str:
    if "error" in cell:
        return f"{cell['error']:.3f}" if cell["error"] >= 0.01 else f"{cell['error']:.4f}"
    return "no" if "reason" in cell else "-"


def _percent(cell: Cell, key: str) -> str:
    if key in cell:
        return f"{cell[key]:.1%}"
    return "no" if "reason" in cell else "-"


def _names(names: list[str], of: int) -> str:
    return f"all {of}" if len(names) == of else ", ".join(names)


def _markdown(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], words: int = 1) -> str:
    return as_markdown(Table(headings, tuple(rows), words=words))


#: Sections of docs/families.md by name.
FIGURES: dict[str, Callable[[], str]] = {
    "families_models": models,
    "families_sizes": sizes,
    "families_sparse": sparse,
    "families_kept": kept,
    "families_errors_8": errors_8_bits,
    "families_errors_4": errors_4_bits,
    "families_errors_sparse": errors_sparse,
    "families_refused": refused,
    "families_weak": weak,
}
