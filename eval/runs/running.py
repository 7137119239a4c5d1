"""`quant eval run` and `resume`: makes what is missing, scores it, and puts the results together.

Everything is on disk before the next thing begins, so a run may be killed at any moment and goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import quant
from quant.errors import QuantError
from quant.eval.runs.clips import read_clips
from quant.eval.runs.conditions import conditions_of, key_of, machine
from quant.eval.runs.config import ORIGINAL, EvaluationConfig, from_dict
from quant.eval.runs.files import remove_unfinished, write_json, write_text
from quant.eval.runs.folder import RunFolder
from quant.eval.runs.generating import find_made, make_videos, write_viewable
from quant.eval.runs.inputs import Sample, make_samples, read_prompts
from quant.eval.runs.models import Loader, Model, find_models, load_pipeline
from quant.eval.runs.networks import Networks, load_networks
from quant.eval.runs.progress import Progress, silent
from quant.eval.runs.ranks import Ranks, ranks
from quant.eval.runs.references import keep_references
from quant.eval.runs.results import FORMAT_VERSION, KIND, model_results, without_infinity
from quant.eval.runs.schema import validate
from quant.eval.runs.scoring import find_scores, score_videos
from quant.eval.runs.timing import timed


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
    run; more samples and other candidates are added to the one that is there.

    Args:
        out: the folder of runs.
        command: as typed, for the results.
        source: the text of the configuration's file, kept beside the results.
        progress: told of every denoising step and every score.
        load: makes pipelines.

    Raises:
        QuantError: prompts, models or settings that cannot be used; another process works on the same run; the
            processes of this one have different models, versions or GPUs.
    """
    samples = make_samples(read_prompts(config.prompts, config.samples), config.seeds)
    models = find_models(config)
    conditions = conditions_of(config, models[0])
    key = key_of(conditions)
    run = RunFolder(out / f"{config.name}-{key[:8]}")
    kept = {
        "config": config.to_dict(),
        "samples": [[sample.prompt, sample.seed] for sample in samples],
        "conditions": conditions,
        "provenance": {"command": command, "machine": machine(), "fps": config.fps},
    }
    with ranks() as these:
        these.agree([key, [model.fingerprint for model in models], [sample.id for sample in samples]])
        if these.first:
            if source is not None:
                write_text(run.path / "config.yaml", source)
            write_json(run.config, kept)
        these.wait()
        _work(run.path, config, samples, models, kept, these, progress, load)
    return run.path


def resume(folder: Path, *, progress: Progress = silent, load: Loader = load_pipeline) -> Path:
    """Finishes the run in `folder`, from what is in it alone.

    Raises:
        QuantError: it is no run, or the original or the installed versions are not those it was begun with.
    """
    file = RunFolder(folder).config
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        samples = [Sample(prompt, seed) for prompt, seed in kept["samples"]]
        begun = kept["conditions"]
        config = from_dict(kept["config"], source=str(file), base=folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuantError(f"{folder}: not the folder of a run: its config.json cannot be read: {error}") from None
    models = find_models(config)
    conditions = conditions_of(config, models[0])
    if key_of(conditions) != key_of(begun):
        changed = [name for name in conditions if name != "model" and conditions[name] != begun.get(name)]
        what = ", ".join(f"{name} {conditions[name]} was {begun.get(name)}" for name in changed)
        raise QuantError(f"{folder}: was begun under other conditions ({what}): begin another with `quant eval run`")
    with ranks() as these:
        _work(folder, config, samples, models, kept, these, progress, load)
    return folder


def _work(
    folder: Path,
    config: EvaluationConfig,
    samples: Sequence[Sample],
    models: Sequence[Model],
    kept: Mapping[str, Any],
    these: Ranks,
    progress: Progress,
    load: Loader,
) -> None:
    from filelock import FileLock, Timeout

    run, conditions = RunFolder(folder, these.rank), kept["conditions"]
    device = these.device(conditions["device"])
    settings = quant.GenerationSettings(**conditions["settings"])
    try:
        lock = FileLock(folder / f".lock-{these.rank}", timeout=0)
        lock.acquire()
    except Timeout:
        raise QuantError(f"{folder}: another process works on this run") from None
    with lock:
        if these.first:
            remove_unfinished(folder)
        these.wait()
        mine = these.share(samples)
        if any(len(find_made(run, model, mine)) < len(mine) for model in models):
            _check_inputs(config, models[0], device)
        for model in models:
            made = find_made(run, model, mine)
            waiting = [sample for sample in mine if sample.id not in made]
            loader = partial(load, model, conditions["dtype"], device)
            make_videos(run, model, waiting, loader, settings, fps=config.fps, progress=progress)
            write_viewable(run, model, mine, fps=config.fps)
        these.wait()
        first = next(iter(find_made(run, models[0], samples[:1]).values()))
        frames, height, width = first["shape"]
        networks = load_networks(config, models[0].folder, (frames, height, width), device)
        for model in models:
            score_videos(run, model, models[0], mine, networks, progress=progress)
        clips = read_clips(config.references, config.reference_samples) if config.references else ()
        references = keep_references(run, clips, frames, networks, these)
        these.wait()
        if these.first:
            speed = None
            if config.speed is not None:
                speed = timed(run, config.speed, models, samples, settings, conditions, load, progress)
            results = _assemble(run, config, models, samples, networks, references, kept, speed)
            validate(results, str(run.results))
            write_json(run.results, results)
        these.wait()


def _check_inputs(config: EvaluationConfig, original: Model, device: str) -> None:
    """Raises what would otherwise be raised after hours, when all videos are made: no network, no clips."""
    load_networks(config, original.folder, None, device)
    if config.references:
        next(read_clips(config.references))


def _assemble(
    run: RunFolder,
    config: EvaluationConfig,
    models: Sequence[Model],
    samples: Sequence[Sample],
    networks: Networks,
    references: Mapping[str, npt.NDArray[np.float32]],
    kept: Mapping[str, Any],
    speed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    made = {model.name: find_made(run, model, samples) for model in models}
    scored = {
        model.name: find_scores(run, model, samples, networks, made[model.name], made[ORIGINAL]) for model in models
    }
    sensitivity = {name: _sensitivity(Path(path)) for name, path in config.sensitivity.items()}
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": key_of(kept["conditions"]),
        "conditions": kept["conditions"],
        "provenance": kept["provenance"],
        "networks": [dict(each) for each in networks.described],
        "missing": [dict(each) for each in networks.missing],
        "samples": [
            {
                "id": sample.id,
                "prompt": sample.prompt,
                "seed": sample.seed,
                "latents_sha256": made[ORIGINAL][sample.id]["latents_sha256"],
            }
            for sample in samples
        ],
        "truncated_prompts": [sample.id for sample in samples if scored[ORIGINAL][sample.id]["truncated"]],
        "models": model_results(run, models, samples, scored, networks.extractors, references, sensitivity),
        "speed": without_infinity(speed),
    }


def _sensitivity(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(quant.Sensitivity.from_json(path.read_text(encoding="utf-8")).to_json())
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise QuantError(f"{path}: not a file of `quant sensitivity`: {error}") from None
    return dict(found)
