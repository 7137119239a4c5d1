"""`quant.calibrate`: a model and a recipe become a checkpoint folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.calibration.journal import Journal
from quant.checkpoint.folder import check_free, new_folder
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.shards import WEIGHTS, TensorPlan
from quant.json_files import read_object
from quant.models.generation import GenerationSettings
from quant.recipe import Recipe
from quant.recipe_parts import KeepBudget
from quant.workflows.component import plan_component, write_component
from quant.workflows.keeping import apply_budget
from quant.workflows.preparing import Prepared, prepare
from quant.workflows.sensitivity import Sensitivity, check_measurable
from quant.workflows.shelf import Shelf
from quant.workflows.skeleton import skeleton
from quant.workflows.solved import Solved, solve_models
from quant.workflows.solving import Forward
from quant.workflows.sources import Source, copy_rest
from quant.workflows.weights import of_files, of_model, source_tensors

#: Beside the manifest of a checkpoint some of whose layers were kept for what was measured of them.
SENSITIVITY = "sensitivity.json"


@dataclass(frozen=True)
class Calibrated:
    """A finished checkpoint.

    Attributes:
        folder: where it is.
        recipe: the recipe that made it.
        layers: component -> one record a layer: name, kind, shape, scheme or None, reason, weight_error. The component
            is "" where the model given was itself one.
        used_prompts: how many prompts were run; 0 where the recipe needs no data.
    """

    folder: Path
    recipe: Recipe
    layers: dict[str, list[dict[str, Any]]]
    used_prompts: int


def calibrate(
    model: str | Path,
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    full: bool = False,
    force: bool = False,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    keep_budget: KeepBudget | None = None,
    max_shard_bytes: int = 10 * 10**9,
    progress: bool = True,
) -> Calibrated:
    """Makes a quantized checkpoint of a diffusers model.

    Args:
        model: a pipeline folder or hub id; for recipes that need no data, also one component's folder.
        recipe: a shipped recipe's name, the path of a YAML file, or a Recipe.
        out: the folder to make. It appears when it is complete.
        prompts: a .txt, .jsonl, .parquet or .csv file, or a list; for recipes that need data.
        full: copy the pipeline's other components too, so that `out` is a whole pipeline.
        force: replace an existing `out`.
        settings: size, steps and guidance of calibration runs, over the pipeline folder's `generation.json`.
        dtype: of everything that is not packed, and of calibration runs.
        device: where calibration runs; CUDA where there is one.
        samples, seed: override the recipe's calibration.
        keep_budget: over the recipe's own: measure how sensitive each layer is, and keep the most sensitive ones in
            higher precision. The recipe written into `out` names them; `sensitivity.json` has what was measured.
        max_shard_bytes: largest safetensors file.
        progress: bars on stderr.

    A calibration that is killed goes on after its last written prompt when the same call is made again; layers that
    were solved are not solved again.

    Raises:
        QuantError: wrong input, each in one line; nothing is left at `out` then.
    """
    out = Path(out)
    check_free(out, force=force)
    start = prepare(
        model, recipe, prompts=prompts, settings=settings, samples=samples, seed=seed, keep_budget=keep_budget
    )
    source, texts = start.source, start.prompts
    forward: Forward | None = None
    pipe = None
    key = _key(start, dtype)
    journal = Journal(out.parent / f".{out.name}.calibration.safetensors", key)
    shelf = Shelf(out.parent / f".{out.name}.solved", key)
    if texts is not None:
        pipe, models = start.load(dtype, device)
        if start.recipe.keep_budget is not None:
            check_measurable(models)
        tensors = {name: of_model(module) for name, module in models.items()}
        forward = start.runner(pipe, progress, journal)
    else:
        folders = {name: source.component_folder(name) for name in start.components}
        models = {name: skeleton(folder, source_tensors(folder)) for name, folder in folders.items()}
        tensors = {name: of_files(model, folders[name], dtype) for name, model in models.items()}
    with journal, shelf:
        solved = solve_models(models, start.recipe, forward, texts, start.settings, journal, shelf)
        found: Sensitivity | None = None
        if start.recipe.keep_budget is not None:
            assert texts is not None
            solved, found = apply_budget(solved, pipe, source.name, texts, progress)
        with new_folder(out, force=force) as work:
            layers = _write(work, source, solved, tensors, _Writing(dtype, full, max_shard_bytes, progress))
            if found is not None:
                (work / SENSITIVITY).write_text(found.to_json(), encoding="utf-8")
    return Calibrated(out, solved.recipe, layers, len(texts or ()))


def _key(start: Prepared, dtype: torch.dtype) -> str:
    """Of everything that statistics and solutions depend on."""
    source = start.source
    files = [
        (path.relative_to(source.folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(source.folder.rglob("*"))
        if path.is_file()
    ]
    run = [start.recipe.sha256, start.prompts or [], start.settings.given()]
    known = [*run, str(dtype), str(source.folder.resolve()), files]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@dataclass(frozen=True)
class _Writing:
    """How a checkpoint is written; see `calibrate`."""

    dtype: torch.dtype
    full: bool
    max_shard_bytes: int
    progress: bool


_Tensors = Mapping[str, Mapping[str, TensorPlan]]


def _write(
    work: Path, source: Source, solved: Solved, tensors: _Tensors, how: _Writing
) -> dict[str, list[dict[str, Any]]]:
    """Writes everything of a checkpoint into the empty folder `work`; returns the record of every layer."""
    records: dict[str, list[dict[str, Any]]] = {}
    hashes: dict[str, str] = {}
    for name in solved.models:
        place = name if source.is_pipeline else ""
        errors: dict[str, float] = {}
        with _bar(f"scales of {name}", len(tensors[name]), how) as step:
            plans = plan_component(tensors[name], solved.fates[name], solved.solutions[name], errors, step)
        config = read_object(source.component_folder(name) / "config.json")
        quantization = solved.config(name, how.dtype)
        with _bar(f"writing {name}", len(plans), how) as step:
            written = write_component(
                work / place, config, quantization, plans, stem=WEIGHTS, max_bytes=how.max_shard_bytes, on_tensor=step
            )
        hashes.update({(Path(place) / file).as_posix(): digest for file, digest in written.items()})
        records[place] = solved.records(name, errors)
    if how.full:
        copy_rest(source, list(solved.models), work)
    (work / "recipe.yaml").write_text(_yaml(solved.recipe), encoding="utf-8")
    write_manifest(work, {**solved.provenance(source.name), "layers": records}, hashes)
    return records


@contextmanager
def _bar(what: str, total: int, how: _Writing) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, moved on by one with each call."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="tensor", disable=not how.progress) as bar:

        def step(_: str) -> None:
            bar.update()

        yield step


def _yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, width=110)
