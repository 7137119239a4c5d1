"""Writes everything of a checkpoint: components, copied files, recipe and manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.calibration.component import plan_component
from quant.calibration.solved import Solved
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.shards import WEIGHTS, TensorPlan
from quant.checkpoint.writing import write_component
from quant.files.json_files import read_object
from quant.pipelines.copying import copy_files
from quant.pipelines.source import Source
from quant.recipe import Recipe


@dataclass(frozen=True)
class Writing:
    """How a checkpoint is written; see `calibrate`. `copied` are files of the original, by their path in it."""

    dtype: torch.dtype
    copied: Mapping[str, Path]
    max_shard_bytes: int
    progress: bool


Tensors = Mapping[str, Mapping[str, TensorPlan]]


def write(
    work: Path, source: Source, solved: Solved, tensors: Tensors, how: Writing
) -> dict[str, list[dict[str, Any]]]:
    """Writes everything of a checkpoint into the empty folder `work`; returns the record of every layer."""
    records: dict[str, list[dict[str, Any]]] = {}
    hashes: dict[str, str] = {}
    for name in solved.models:
        place = name if source.is_pipeline else ""
        errors: dict[str, float] = {}
        with _bar(f"scales of {name}", len(tensors[name]), how) as step:
            plans = plan_component(tensors[name], solved.plans[name], solved.solutions[name], errors, step)
        config = read_object(source.component_folder(name) / "config.json")
        quantization = solved.config(name, how.dtype)
        with _bar(f"writing {name}", len(plans), how) as step:
            written = write_component(
                work / place, config, quantization, plans, stem=WEIGHTS, max_bytes=how.max_shard_bytes, on_tensor=step
            )
        hashes.update({(Path(place) / file).as_posix(): digest for file, digest in written.items()})
        records[place] = solved.records(name, errors)
    copy_files(how.copied, work)
    (work / "recipe.yaml").write_text(_yaml(solved.recipe), encoding="utf-8")
    write_manifest(work, {**solved.provenance(source.name), "layers": records}, hashes)
    return records


@contextmanager
def _bar(what: str, total: int, how: Writing) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, moved on by one with each call."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="tensor", disable=not how.progress) as bar:

        def step(_: str) -> None:
            bar.update()

        yield step


def _yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, width=110)
