"""The times of a run's models, taken once, and what a roofline model predicts for a named GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

import quant
from quant.errors import QuantError
from quant.eval.inputs.config import ORIGINAL, ROUNDS, SpeedSettings
from quant.eval.inputs.models import Loader, Model
from quant.eval.inputs.samples import Sample, described
from quant.eval.progress import Progress
from quant.eval.storage.files import file_sha256, hash_of, without_infinity, write_json
from quant.eval.storage.folder import TIMED, RunFolder
from quant.eval.videos.generating import row_of
from quant.eval.videos.generation import complete_call
from quant.eval.videos.one_call import noise_shape
from quant.files.json_files import read_object
from quant.files.regular_files import read_text
from quant.pipelines.arguments import Arguments
from quant.pipelines.rows import Row, call_of
from quant.pipelines.source import open_source
from quant.pipelines.stepping import own_arguments
from quant.text import first_line

#: Text tokens of the pipelines whose call has no argument for them.
_TEXT_TOKENS = 512
#: Stands in the place of a model's fingerprint.
_SPEED = "speed"


def timed(
    run: RunFolder,
    how: SpeedSettings,
    models: Sequence[Model],
    samples: Sequence[Sample],
    settings: quant.GenerationSettings,
    conditions: Mapping[str, Any],
    load: Loader,
    progress: Progress,
) -> dict[str, Any]:
    """The "speed" of the results: read, where the very same models were timed in the same way before."""
    from quant.eval.speed.pipelines import time_pipelines

    which = [[model.name, model.fingerprint] for model in models]
    rounds, compiled = how.rounds or ROUNDS, bool(how.compile)
    key = hash_of([which, rounds, compiled, how.gpu])[:8]
    path = run.path / f"speed-{key}.json"
    sha256 = file_sha256(path)
    if any(record["sha256"] == sha256 for record in run.records(TIMED).get((_SPEED, key), ())):
        return read_object(path, QuantError)
    used = samples[:rounds]
    loaders = pipeline_loaders(models, conditions["dtype"], conditions["device"], load)
    rows = [row_of(run, sample) for sample in used]
    calls = [partial(_call, row, sample.seed, settings) for row, sample in zip(rows, used, strict=True)]
    name, arguments = open_source(models[0].folder).call()
    shared = complete_call(arguments, name, settings)
    estimated = None
    if how.gpu is not None:
        estimated = _estimated(how.gpu, loaders, models, arguments, {**shared, **rows[0].values}, calls[0])
    found = time_pipelines(loaders, calls, settings=shared, rounds=rounds, compiled=compiled, progress=progress)
    body = dict(without_infinity({**found, "samples": [described(each) for each in used], "estimated": estimated}))
    for model in models:
        model.check_unchanged()
    write_json(path, body)
    run.append(TIMED, {"model": _SPEED, "sample": key, "sha256": file_sha256(path)})
    return body


def _call(row: Row, seed: int, settings: quant.GenerationSettings, pipeline: Any) -> dict[str, Any]:
    """The keyword arguments of a sample's call, as its video was made with, its files read anew."""
    return {**call_of(row, pipeline, settings), **own_arguments(pipeline, seed)}


def last_timed(run: RunFolder) -> dict[str, Any] | None:
    """The "speed" of the results where nothing is timed: what was timed last, if anything was."""
    found = None
    for (_, key), records in run.records(TIMED).items():
        path = run.path / f"speed-{key}.json"
        sha256 = file_sha256(path)
        if any(record["sha256"] == sha256 for record in records):
            found = path
    return None if found is None else read_object(found, QuantError)


def pipeline_loaders(models: Sequence[Model], dtype: str, device: str, load: Loader) -> dict[str, Callable[[], Any]]:
    """The functions that make the models' pipelines, by name; the original first.

    As long as the original's pipeline is there, candidates of components take its text encoder and VAE: all pipelines
    are on the device while they are timed, and a text encoder for each would leave no room for their denoisers.
    """
    first: weakref.ref[Any] | None = None

    def original() -> Any:
        nonlocal first
        pipeline = load(models[0], dtype, device)
        first = weakref.ref(pipeline)
        return pipeline

    def candidate(model: Model) -> Any:
        pipeline = None if first is None else first()
        if model.base is None or pipeline is None:
            return load(model, dtype, device)
        modules = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        return load(model, dtype, device, modules)

    return {ORIGINAL: original, **{model.name: partial(candidate, model) for model in models[1:]}}


def recipes_of(candidates: Sequence[Model]) -> dict[str, quant.Recipe]:
    """The recipes of those candidates that hold theirs, by name. Raises QuantError where one cannot be read."""
    found = {}
    for model in candidates:
        file = model.folder / "recipe.yaml"
        if file.is_file():
            try:
                found[model.name] = quant.Recipe.from_yaml(read_text(file))
            except (OSError, ValueError, QuantError) as error:
                raise QuantError(f"{file}: cannot be read: {first_line(error)}") from None
    return found


def _estimated(
    gpu: str,
    loaders: Mapping[str, Callable[[], Any]],
    models: Sequence[Model],
    arguments: Arguments,
    values: Mapping[str, Any],
    call: Callable[[Any], Mapping[str, Any]],
) -> dict[str, Any] | None:
    """Predicted times of the original and of the candidates that hold their recipe; None where there are none.

    The latents' shape is that of the noise that `call` begins with; `values` are what it is given.
    """
    from quant.eval.speed.estimating import estimates

    recipes = {ORIGINAL: None, **recipes_of(models[1:])}
    pipeline = loaders[ORIGINAL]()
    latents = noise_shape(pipeline, call(pipeline))
    guider = getattr(pipeline, "guider", None)  # of a modular pipeline, whose calls take no scale
    del pipeline

    def value(name: str, default: float) -> float:
        found = values.get(name, arguments[name].default if name in arguments else None)
        return float(found) if isinstance(found, int | float) else default

    return estimates(
        models[0].folder,
        recipes,
        gpu,
        latents=latents[1:],
        text_tokens=int(value("max_sequence_length", _TEXT_TOKENS)),
        guidance=value("guidance_scale", 1.0) > 1 if guider is None else guider.num_conditions > 1,
    )
