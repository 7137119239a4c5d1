"""Candidates that a run has finished: what is recorded of one serves where its folder is gone or changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.inputs.models import Model, find_candidate, find_models
from quant.eval.progress import Progress
from quant.eval.results.schema import read_results
from quant.eval.runs.requests import Request, check_models, read_request
from quant.eval.storage.folder import RunFolder

Entries = Mapping[str, Mapping[str, Any]]


def grown(
    run: RunFolder, models: Sequence[Model], asked: Request, progress: Progress
) -> tuple[Request, tuple[Model, ...]]:
    """What is asked for, added to what the run has finished, and the models of both.

    What a run was asked for and has not finished is not asked for any more; what was made for it is used where it fits.

    Args:
        models: of the request.

    Raises:
        QuantError: a candidate of a name that the run has scores of, and of other weights.
    """
    if not run.config.is_file():
        return asked, tuple(models)
    earlier = read_request(run.path, finished=True)
    if not run.results.is_file():
        return asked, tuple(models)
    entries = _entries(run, earlier)
    scored = {
        name: fingerprint
        for name, fingerprint in earlier.fingerprints.items()
        if name not in entries or entries[name]["failed"] is None
    }
    check_models(run.path, models, scored)
    request = asked.after(earlier)
    return request, _with_earlier(request, models, entries, progress)


def begun(run: RunFolder, progress: Progress) -> tuple[Request, tuple[Model, ...]]:
    """What the run was last asked for, and its models. Raises QuantError where an unfinished one is not there."""
    request = read_request(run.path)
    entries = {name: entry for name, entry in _entries(run, request).items() if entry["failed"] is None}
    waiting = {name: source for name, source in request.config.candidates.items() if name not in entries}
    models = find_models(replace(request.config, candidates=waiting), progress)
    return request, _with_earlier(request, models, entries, progress)


def _entries(run: RunFolder, request: Request) -> Entries:
    """The results' entries of the request's models, by name; of results that cannot be read, none."""
    try:
        models = read_results(run.path)["models"]
    except QuantError:
        return {}
    return {model["name"]: model for model in models if model["fingerprint"] == request.fingerprints.get(model["name"])}


def _with_earlier(request: Request, models: Sequence[Model], entries: Entries, progress: Progress) -> tuple[Model, ...]:
    """The original and all of the request's candidates in their order: those of `models`, else as they are recorded."""
    original, known = models[0], {model.name: model for model in models}
    return (
        original,
        *(
            known[name] if name in known else _recorded(name, source, original, entries.get(name), progress)
            for name, source in request.config.candidates.items()
        ),
    )


def _recorded(name: str, source: str, original: Model, entry: Mapping[str, Any] | None, progress: Progress) -> Model:
    try:
        model = find_candidate(name, source, original, progress)
    except QuantError:
        if entry is None:
            raise
    else:
        if entry is None or model.fingerprint == entry["fingerprint"]:
            return replace(model, recorded=entry)
    return Model(name, source, Path(source), str(entry["fingerprint"]), recorded=entry, gone=True)
