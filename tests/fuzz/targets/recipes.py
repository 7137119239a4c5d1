"""Recipes and prompt files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quant.patterns import matches
from quant.prompts import read_prompts
from quant.recipe import Recipe
from tests.fuzz.target import Target

_RECIPE = """\
version: 1
summary: INT8, the first and last block in FP8
groups:                                  # the first group that matches a layer wins
  - {targets: ["re:blocks\\\\.(0|29)\\\\..*"], scheme: FP8_DYNAMIC}
  - targets: [Linear]
    scheme:
      weights: {num_bits: 4, type: int, strategy: group, group_size: 64}
    algorithm: {name: gptq, damping: 0.01}
    misfits: keep
  - {targets: ["blocks.1.ffn"], scheme: FP8_DYNAMIC, sparsity: {structure: "2:4", method: magnitude}}
  - targets: [Linear]
    scheme: W8A8
    algorithm: {name: smoothquant, alpha: search}
ignore: ["re:.*\\\\.attn2\\\\.to_k"]
keep_edge_blocks: 0.1
keep_budget: {share: 0.05, scheme: W8A8, runs: 2, steps: 3}
calibration: {samples: 32, seed: 0, steps: 4, rows: 128, hessian_gb: 2.5, timestep_weights: [1, 0.5]}
"""


def _make_recipe(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(_RECIPE, encoding="utf-8")


_NAMES = ("blocks.0.attn1.to_q", "blocks.29.ffn.net.0.proj", "proj_out", "a" * 100)


def _read_recipe(folder: Path) -> Any:
    """Reads the recipe and asks it for layers, as a calibration does."""
    recipe = Recipe.from_file(folder / "recipe.yaml")
    for pattern in (*recipe.ignore, *(target for group in recipe.groups for target in group.targets)):
        for name in _NAMES:
            matches(pattern, name, ("Linear",))
    return recipe.to_dict()


def _unfaithful_recipe(folder: Path, body: Any) -> str | None:
    """A recipe that was read must be one that can be written into a checkpoint and read again."""
    again = Recipe.from_dict(json.loads(json.dumps(body, allow_nan=False))).to_dict()
    return None if again == body else f"reads back as {again}"


_PROMPTS = ["a red fox", "a blue bird, 'quoted'", 'snow "falls"', "视频"]


def _make_prompts(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "p.txt").write_text("\n".join(_PROMPTS), encoding="utf-8")
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": p, "n": 1}) for p in _PROMPTS), encoding="utf-8")
    (folder / "p.json").write_text(json.dumps([{"caption": p} for p in _PROMPTS]), encoding="utf-8")
    (folder / "p.csv").write_text("id,text\n" + "".join(f'{i},"{p}"\n' for i, p in enumerate("abcd")), encoding="utf-8")
    pq.write_table(pa.table({"prompt": _PROMPTS}), folder / "p.parquet")


def _prompts_of(name: str) -> Target:
    def read(folder: Path) -> Any:
        return read_prompts(folder / name, 8, enough=False)

    def wrong(folder: Path, found: Any) -> str | None:
        return None if found and all(isinstance(p, str) and p for p in found) else f"prompts {found!r}"

    return Target(f"prompts, {name.rpartition('.')[2]}", _make_prompts, read, mutated=(name,), wrong=wrong, share=0.3)


RECIPES = (
    Target("recipe", _make_recipe, _read_recipe, wrong=_unfaithful_recipe, share=2.0),
    *(_prompts_of(name) for name in ("p.txt", "p.jsonl", "p.json", "p.csv", "p.parquet")),
)
