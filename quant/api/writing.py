"""Writes everything of a checkpoint: components, copied files, recipe and manifest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quant.calibration.component import component_parts
from quant.calibration.solved import Solved
from quant.checkpoint.kept_shards import KeptShards
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.shards import TensorPlan
from quant.checkpoint.writing import write_component
from quant.pipelines.copying import copy_files
from quant.pipelines.inputs.base import Component
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
    work: Path,
    source: Source,
    solved: Solved,
    parts: Mapping[str, Component],
    tensors: Tensors,
    shards: KeptShards,
    how: Writing,
) -> dict[str, list[dict[str, Any]]]:
    """Writes everything of a checkpoint into the empty folder `work`; returns the record of every layer.

    `parts` and `tensors` are the components', by name; `shards` keeps files while others are not finished.
    """
    records: dict[str, list[dict[str, Any]]] = {}
    hashes: dict[str, str] = {}
    for name in solved.models:
        place = name if source.is_pipeline else ""
        errors: dict[str, float] = {}
        quantization = solved.config(name, how.dtype)
        with _counted(tensors[name], f"writing {name}", how) as counted:
            made = component_parts(counted, solved.plans[name], solved.solutions[name], errors)
            written = write_component(
                work / place,
                parts[name].config_for(how.dtype, quantization),
                quantization,
                made,
                stem=parts[name].stem,
                max_bytes=how.max_shard_bytes,
                shards=shards,
                component=place,
                errors=errors,
            )
        hashes.update({(Path(place) / file).as_posix(): digest for file, digest in written.items()})
        records[place] = solved.records(name, errors)
    for place in records:  # when all are finished: what is in `work` is lost with a run that is killed
        shards.move(place, work / place)
    copy_files(how.copied, work)
    (work / "recipe.yaml").write_text(_yaml(solved.recipe), encoding="utf-8")
    write_manifest(work, {**solved.provenance(source.name), "layers": records}, hashes)
    return records


@contextmanager
def _counted(tensors: Mapping[str, TensorPlan], what: str, how: Writing) -> Iterator[dict[str, TensorPlan]]:
    """The same tensors, with a bar on stderr that counts the bytes that are made of them."""
    from tqdm import tqdm

    total, lock = sum(tensor.nbytes for tensor in tensors.values()), threading.Lock()
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not how.progress) as bar:

        def count(nbytes: float) -> None:
            with lock:
                bar.update(nbytes)

        def counted(tensor: TensorPlan) -> TensorPlan:
            found = _watched(tensor, count)
            if tensor.coded is None:
                return found
            # Codes that are copied stand for the weight, whatever they take.
            share = tensor.nbytes / sum(each.nbytes for each in tensor.coded.tensors.values())
            codes = {
                leaf: _watched(each, lambda nbytes: count(share * nbytes))
                for leaf, each in tensor.coded.tensors.items()
            }
            return replace(found, coded=replace(tensor.coded, tensors=codes))

        yield {name: counted(tensor) for name, tensor in tensors.items()}


def _watched(tensor: TensorPlan, count: Callable[[float], None]) -> TensorPlan:
    """The same tensor, of which `count` is called with the bytes of all rows that are made for the first time."""
    seen = 0

    def rows(start: int, stop: int) -> torch.Tensor:
        nonlocal seen
        made = tensor.rows(start, stop)
        if start >= seen:  # some are read twice
            seen = max(stop, 1)
            count(made.nbytes)
        return made

    return replace(tensor, rows=rows)


def _yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, width=110)
