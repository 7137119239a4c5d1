"""`quant.calibrate`: a model and a recipe become a checkpoint folder.

What is on disk in each phase, all of it in the hidden folder that `quant.checkpoint.folder` describes, and what a run
that finds it does:

1. Everything small is checked: names, places, what is copied, room on the disk. Nothing is left by a refusal.
2. For a recipe with Hessians, calls of denoisers: those of a recording that is given, or of one that is made in
   `recorded/`, call by call; each that is there is whole. The next run goes on with the input that was recorded. Then
   all calls go through the denoiser block by block: solutions are kept as in phase 3. The next run takes the calls
   through all blocks again, and solves what is left.
   Else a pass over the prompts: `journal.safetensors` holds the statistics after a prompt, by the number of the pass.
   The next run goes on after that prompt.
3. The pass is solved, input by input: each solution in `solved/` is whole or absent, and the journal stays as it was
   after its last writing. The next run loads what is solved, and restores the statistics of the other inputs from the
   journal; where all prompts were run, none is run again. If the journal lacks an input that is not solved, for a file
   was damaged, the pass starts anew.
   Phases 2 and 3 repeat until all passes are done; a pass that is solved whole is skipped.
4. The checkpoint is written, its files of tensors into `written/`, and then moved to `new/`. The next run starts with
   this phase, for all is solved, and does not make the files again that are finished.
5. The original is compared with what it was at the beginning, and the folder is renamed into place.

`run.json` says what all this depends on. A run that differs in any of it drops what is there, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from quant.api.gathering import gather, recording_of
from quant.api.keeping import claim, keeping
from quant.api.record_calls import check_calls, record_for
from quant.api.room import check_room
from quant.api.sharing import check_shared, held_by_first
from quant.api.writing import Writing, write
from quant.calibration.keep_budget import apply_budget
from quant.calibration.preparing import Prepared, prepare
from quant.calibration.provenance import recorded_rows, run_of
from quant.calibration.ranks import Ranks
from quant.calibration.way import takes_calls
from quant.checkpoint.folder import OutputFolder
from quant.checkpoint.free import check_free
from quant.checkpoint.kept_shards import KeptShards
from quant.checkpoint.sensitivity import Sensitivity
from quant.errors import CheckpointError, ModelError
from quant.files.places import check_apart
from quant.pipelines.copying import files_to_copy, places_of
from quant.pipelines.inputs.base import Component
from quant.pipelines.rows import Inputs
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.source import denoisers_of
from quant.recipe import Recipe
from quant.recipe_parts import KeepBudget

#: Next to the manifest of a checkpoint some of whose layers were kept for what was measured of them.
SENSITIVITY = "sensitivity.json"


@dataclass(frozen=True)
class Calibrated:
    """A finished checkpoint.

    Attributes:
        folder: where it is.
        recipe: the recipe that made it.
        layers: component -> one record a layer: name, kind, shape, scheme or None, reason, weight_error. The component
            is "" where the model given was itself one.
            Empty in all processes but the first, if there are several.
        used_prompts: how many prompts were run, or recorded; 0 where the recipe needs no data.
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
    inputs: Inputs | None = None,
    calls: str | Path | None = None,
    full: bool = False,
    force: bool = False,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    keep_budget: KeepBudget | None = None,
    max_shard_bytes: int = 10 * 10**9,
    config: str | Path | None = None,
    progress: bool = True,
) -> Calibrated:
    """Makes a quantized checkpoint of a diffusers model.

    Args:
        model: a pipeline folder or hub id; for recipes that need no data, also what `quant.convert` takes.
        recipe: a shipped recipe's name, the path of a YAML file, or a Recipe.
        out: the folder to make. It appears when it is complete.
        prompts: a .txt, .jsonl, .parquet or .csv file, or a list; for recipes that need data.
        inputs: instead of prompts, a table whose columns are arguments of the pipeline's call, such as `image`, `video`
            or `strength`: a file, folder or data set as for prompts, or a list of mappings. Files are named by paths
            from the table's folder; in a list pictures, lists of them and tensors may stand themselves.
        calls: a folder that `quant.record` has made of this model. The pipeline is not run: the calls go through the
            denoiser block by block, with the weights of one block in memory. With prompts or inputs, the folder where
            their recording is kept: it is made there, or used if it is there.
        full: copy the pipeline's other components too, so that `out` is a whole pipeline.
        force: replace an existing checkpoint; anything else at `out` is never replaced.
        settings: size, steps, guidance and whatever else calibration runs are called with, over the pipeline folder's
            `generation.json`.
        dtype: of everything that is not packed, and of calibration runs.
        device: where calibration runs; CUDA where there is one.
        samples, seed: override the recipe's calibration.
        keep_budget: over the recipe's own: measure how sensitive each layer is, and keep the most sensitive ones in
            higher precision. The recipe written into `out` names them; `sensitivity.json` has what was measured.
        max_shard_bytes: largest safetensors file.
        config: for recipes that need no data, where the config.json of the model's class is, if not next to its files:
            a component's folder, a pipeline's, or a hub id.
        progress: bars on stderr.

    What a recipe with Hessians is calibrated on are recorded calls in any case: without `calls` a recording is made
    first, of 32 steps of each denoiser, and removed at the end. Where calls cannot be recorded, a warning says why, and
    the pipeline is run on all inputs.

    A calibration that is killed goes on after its last written prompt when the same call is made again, on recorded
    calls at the block where it was; layers that were solved are not solved again. One that fails, for the disk is full,
    goes on likewise. A warning says where what an interrupted run had done is dropped, because this one is about
    something else.

    On recorded calls several processes may do this together, with the same arguments, as torchrun starts them: see
    docs/many_processes.md. The first one writes; the others return when all is solved.

    Raises:
        QuantError: wrong input, each in one line; what was at `out` is there as before.
        KeyboardInterrupt: with what can be done then.
    """
    ranks = Ranks.of_environment()
    out = Path(out)
    check_apart(out, [Path(model)], CheckpointError)
    check_free(out, force=force)
    start = prepare(
        model,
        recipe,
        prompts=prompts,
        inputs=inputs,
        settings=settings,
        samples=samples,
        seed=seed,
        keep_budget=keep_budget,
        config=config,
        calls=calls,
    )
    check_shared(start, ranks)
    check_apart(out, places_of(start.source), CheckpointError)
    if calls is not None:
        check_apart(out, [Path(calls)], CheckpointError)
    snapshot = Snapshot.of(start.source)
    if calls is not None and start.rows is not None:
        what = recording_of(start, denoisers_of(start.source), dtype)
        made = record_for(what, Path(calls), snapshot, device, progress)
        start = replace(start, calls=made)
    if start.calls is not None:
        check_calls(start.calls, start.source, start.components, settings=settings, dtype=dtype)
    copied = files_to_copy(start.source, start.components) if full else {}
    how = Writing(dtype, copied, max_shard_bytes, progress and ranks.is_first)
    parts = {name: start.source.component(name) for name in start.components}
    run = run_of(start, snapshot, dtype)

    def claimed(folder: OutputFolder) -> None:
        models = {name: part.model for name, part in parts.items()}
        check_room(folder, models, start.recipe, dtype, copied.values(), journal=not takes_calls(start.recipe))
        claim(folder, run)

    with ranks.joined():
        ranks.check_equal(run, "all processes have to get the same arguments and see the same files")
        with held_by_first(out, ranks, force=force, claim=claimed) as folder, keeping(folder, snapshot):
            return _calibrated(folder, start, parts, ranks, device, run["key"], snapshot, how)


def _calibrated(
    folder: OutputFolder,
    start: Prepared,
    parts: Mapping[str, Component],
    ranks: Ranks,
    device: str | None,
    key: str,
    snapshot: Snapshot,
    how: Writing,
) -> Calibrated:
    """Does the work of `calibrate`."""
    source = start.source
    gathered = gather(folder, start, parts, snapshot, key, how, device, ranks)
    solved = gathered.solved
    if not ranks.is_first:
        return Calibrated(folder.out, solved.recipe, {}, len(recorded_rows(solved.calls)) if solved.calls else 0)
    found: Sensitivity | None = None
    if start.recipe.keep_budget is not None:
        assert start.rows is not None
        solved, pipe = gathered.with_pipeline(start, how.dtype, device)
        solved, found = apply_budget(solved, pipe, source.name, start.rows, how.progress)
    snapshot.check()
    with folder.new() as work:
        layers = write(work, source, solved, parts, gathered.tensors, KeptShards(folder.written, key), how)
        if found is not None:
            (work / SENSITIVITY).write_text(found.to_json(), encoding="utf-8")
        try:
            snapshot.check()
        except ModelError:
            folder.drop_written()
            raise
    used = len(start.rows or ()) if solved.calls is None else len(recorded_rows(solved.calls))
    return Calibrated(folder.out, solved.recipe, layers, used)
