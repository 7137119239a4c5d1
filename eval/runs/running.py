"""`quant eval run` and `resume`: makes what is missing, scores it, and puts the results together.

Everything is on disk before the next thing begins, so a run may be killed at any moment and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import quant
from quant.errors import QuantError
from quant.eval.inputs.clips import clips_of
from quant.eval.inputs.config import ORIGINAL, EvaluationConfig
from quant.eval.inputs.models import FailedModelError, Loader, Model, find_models, load_pipeline
from quant.eval.inputs.samples import make_samples, prompts_of
from quant.eval.progress import Progress, silent
from quant.eval.results.schema import validate
from quant.eval.runs.assembling import Found, assemble
from quant.eval.runs.conditions import conditions_of, key_of, machine
from quant.eval.runs.earlier import begun, grown
from quant.eval.runs.networks import load_networks
from quant.eval.runs.preflight import check_packages, check_places, prepare
from quant.eval.runs.processes import Ranks, claimed, ranks
from quant.eval.runs.references import keep_references
from quant.eval.runs.requests import (
    Request,
    changed_conditions,
    check_models,
    finish_request,
    read_request,
)
from quant.eval.runs.scoring import score_videos
from quant.eval.runs.timing import last_timed, timed
from quant.eval.speed.device import release
from quant.eval.storage.files import remove_unfinished, write_json
from quant.eval.storage.folder import RunFolder
from quant.eval.storage.journal import Record
from quant.eval.storage.kept_inputs import inputs_text, keep_inputs
from quant.eval.videos.generating import make_videos, write_viewable
from quant.pipelines.rows import Row, read_rows
from quant.pipelines.source import open_source


def run_evaluation(
    config: EvaluationConfig,
    out: Path,
    *,
    command: str = "",
    source: str | None = None,
    progress: Progress = silent,
    load: Loader = load_pipeline,
) -> Path:
    """Makes or continues the run of `config` below `out`, and returns its folder.

    The folder's name holds a hash of the conditions: other settings, another original or other versions make another
    run; more samples and other candidates are added to the one that is there, which loses none.

    Args:
        out: the folder of runs.
        command: as typed, for the results.
        source: the text of the configuration's file, kept with the results.
        progress: called for every denoising step and every score.
        load: makes pipelines.

    Raises:
        QuantError: prompts, models or settings that cannot be used; another process works on the same run; the run has
            a candidate of that name with other weights; the original fails; the processes of this one have different
            models, versions or GPUs. A candidate that fails is no error: the results say so.
    """
    check_packages()
    rows: list[Row] = []
    if config.inputs is None:
        samples = make_samples(prompts_of(config.prompts, config.samples), config.seeds)
        models = find_models(config, progress)
    else:
        models = find_models(config, progress)
        rows = _rows(config, models[0])
        samples = make_samples([row.text for row in rows], config.seeds, [inputs_text(row) for row in rows])
    check_places(out, config, models)
    conditions = conditions_of(config, models[0])
    key = key_of(conditions)
    folder = out / f"{config.name}-{key[:8]}"
    provenance = {"command": command, "machine": machine()}
    fingerprints = {model.name: model.fingerprint for model in models}
    asked = Request(config, samples, conditions, provenance, fingerprints, source)
    with ranks() as these:
        these.agree([key, list(fingerprints.items()), [sample.id for sample in samples]])
        with claimed(folder, these):
            request, every = these.together(lambda: grown(RunFolder(folder), models, asked, progress))
            these.alone(lambda: keep_inputs(RunFolder(folder), rows))
            _work(folder, request, every, these, progress, load)
    return folder


def _rows(config: EvaluationConfig, original: Model) -> list[Row]:
    """The rows of the configuration's table. Raises QuantError where it does not fit the original's call."""
    assert config.inputs is not None
    name, arguments = open_source(original.folder).call()
    settings = quant.GenerationSettings.read(original.folder).merged(**config.settings.given())
    return read_rows(config.inputs, arguments, name, config.samples, settings=settings, error=QuantError)


def resume(folder: Path, *, progress: Progress = silent, load: Loader = load_pipeline) -> Path:
    """Finishes the run in `folder`, from what is in it alone.

    Raises:
        QuantError: it is no run, or the original or the installed versions are not those it was begun with; else as
            `run_evaluation`.
    """
    check_packages()
    read_request(folder)  # of a folder that is none, nothing is held and nothing is made in it
    with ranks() as these, claimed(folder, these):
        request, models = these.together(lambda: begun(RunFolder(folder), progress))
        _work(folder, request, models, these, progress, load)
    return folder


def _work(
    folder: Path, request: Request, models: Sequence[Model], these: Ranks, progress: Progress, load: Loader
) -> None:
    """Does what is missing of a request, in a folder that this process holds."""
    run, config, samples, before = RunFolder(folder, these.rank), request.config, request.samples, request.conditions
    conditions = conditions_of(replace(config, device=before["device"], dtype=before["dtype"]), models[0])
    if key_of(conditions) != key_of(before):
        words = changed_conditions(conditions, before)
        raise QuantError(f"{folder}: was begun under other conditions ({words}): begin another with `quant eval run`")
    check_models(folder, models, request.fingerprints)
    check_places(folder, config, models)
    device = these.device(before["device"])
    settings = quant.GenerationSettings(**before["settings"])
    failed = {
        model.name: model.recorded["failed"]
        for model in models
        if model.gone and model.recorded is not None and model.recorded["failed"]
    }
    waiting = [model for model in models if model.name not in failed]
    these.alone(lambda: remove_unfinished(folder))
    sensitivities, made = prepare(run, request, waiting, settings, device, these)
    mine = these.share(samples)

    def make(model: Model) -> None:
        known = made.setdefault(model.fingerprint, {})
        there = [sample for sample in mine if sample.id in known]
        loader = partial(load, model, before["dtype"], device)
        make_videos(run, model, mine, known, loader, settings, fps=config.frame_rate, progress=progress)
        write_viewable(run, model, there, known, fps=config.frame_rate)

    failed = _each(models, make, these, failed)
    made = _of_all(made, these)
    originals = made[models[0].fingerprint]
    frames, height, width = originals[samples[0].id]["shape"]
    shape = (frames, height, width)
    networks = these.together(lambda: load_networks(config, models[0].folder, shape, device))
    scored: dict[str, dict[str, Record]] = {}

    def score(model: Model) -> None:
        ours = made[model.fingerprint]
        scored[model.name] = score_videos(run, model, mine, networks, ours, originals, progress=progress)

    failed = _each(models, score, these, failed)
    scored = _of_all(scored, these)
    references = keep_references(run, clips_of(config), frames, networks, these)

    def finish() -> None:
        good = [model for model in models if model.name not in failed and not model.gone]
        if config.speed is None:
            speed = last_timed(run)
        else:
            speed = timed(run, config.speed, good, samples, settings, before, load, progress)
        found = Found(made, scored, networks, references, sensitivities, speed, failed)
        results = assemble(run, request, models, found)
        validate(results, str(run.results))
        write_json(run.results, results)
        finish_request(run, request)

    these.alone(finish)


def _of_all(mine: Mapping[str, dict[str, Record]], these: Ranks) -> dict[str, dict[str, Record]]:
    """The records of all processes, by the key of a model and the sample's id: none looks for those of another."""
    found: dict[str, dict[str, Record]] = {}
    for part in these.gather(dict(mine)):
        for key, records in part.items():
            found.setdefault(key, {}).update(records)
    return found


def _each(
    models: Sequence[Model], work: Callable[[Model], None], these: Ranks, failed: Mapping[str, str]
) -> dict[str, str]:
    """Does `work` for each model that has not failed, in all processes; returns why models failed, by name.

    Raises:
        QuantError: in all processes, where the original fails in one, or the disk.
    """
    found = dict(failed)

    def every() -> None:
        for model in models:
            if model.name in found:
                continue
            try:
                work(model)
            except FailedModelError as error:
                models[0].check_unchanged()  # candidates of components are made of it, too
                if model.name == ORIGINAL:
                    raise
                found[model.name] = error.why
                release()  # the pipeline that failed, which the exception held

    these.together(every)
    for other in these.gather(found):
        found = {**other, **found}
    return {model.name: found[model.name] for model in models if model.name in found}
