"""What is checked before the first video of a run: whatever would else be found after hours."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import quant
from quant.errors import QuantError
from quant.eval.inputs.clips import clips_of
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.models import Model
from quant.eval.runs.networks import Networks, load_networks
from quant.eval.runs.processes import Ranks
from quant.eval.runs.references import keep_references
from quant.eval.runs.requests import Request, write_request
from quant.eval.runs.timing import recipes_of
from quant.eval.storage.folder import RunFolder
from quant.eval.videos.generating import Made, find_made
from quant.files.regular_files import read_text
from quant.pipelines.arguments import Argument, frames_name
from quant.pipelines.source import open_source
from quant.text import cut

#: Frames, height, width.
Shape = tuple[int, int, int]
#: Bytes that a pixel takes on disk where nothing is measured yet: 16-bit frames without loss of noisy colours take
#: nearly their own 6, the 8-bit video without loss up to 2, features and preview little.
_PIXEL = 8
#: Frames, height and width of a clip whose pipeline follows the video that it is given.
_UNKNOWN = (16, 512, 512)


class Prepared(NamedTuple):
    """What is known before the first video: measured sensitivities by candidate's name, and the videos that are there.

    `made` are records by the model's fingerprint and the sample's id.
    """

    sensitivities: dict[str, Any]
    made: dict[str, Made]


def prepare(
    run: RunFolder,
    request: Request,
    models: Sequence[Model],
    settings: quant.GenerationSettings,
    device: str,
    these: Ranks,
) -> Prepared:
    """Raises what would otherwise be raised after hours, when all videos are made.

    Networks are loaded, see a video of the size to come, and are let go; features of real clips are taken. These are
    the first that a run keeps, so the request is written down before: a folder without one is of no run.
    """
    config, samples = request.config, request.samples
    shape = _expected_shape(models[0], settings)

    def check() -> tuple[Prepared, Networks | None]:
        sensitivities = _sensitivities(config, models)
        if config.speed is not None and config.speed.gpu is not None:
            recipes_of([model for model in models[1:] if not model.gone])
        made: dict[str, Made] = {}
        missing = 0
        for model in models:
            if model.fingerprint not in made:
                made[model.fingerprint] = find_made(run, model, samples)
            lacking = len(samples) - len(made[model.fingerprint])
            _check_there(run, model, lacking)
            missing += lacking
        if not missing:
            return Prepared(sensitivities, made), None
        if these.first:
            _check_space(run, shape, missing)
        next(iter(clips_of(config)), None)  # it is known before anything is written that there are any
        return Prepared(sensitivities, made), load_networks(config, models[0].folder, shape, device)

    prepared, networks = these.together(check)
    these.alone(lambda: write_request(run, request))
    if networks is not None:
        keep_references(run, clips_of(config), shape[0], networks, these)
    return prepared


def check_packages() -> None:
    """Raises QuantError where a package is missing that the end of a run needs."""
    missing = [name for name in ("av", "jsonschema") if importlib.util.find_spec(name) is None]
    if missing:
        raise QuantError(f"evaluating needs {' and '.join(missing)}: pip install 'quant-video[eval]'")


def check_places(out: Path, config: EvaluationConfig, models: Sequence[Model]) -> None:
    """Raises QuantError where runs would lie inside a model or the real clips, and so change what is compared."""
    place = out.resolve()
    inputs = {model.name: model.folder for model in models}
    if config.references is not None and Path(config.references).is_dir():
        inputs["references"] = Path(config.references)
    for name, folder in inputs.items():
        if place.is_relative_to(folder.resolve()):
            raise QuantError(f"{out}: lies in {folder}, which is read as '{name}': choose another --out")


def _expected_shape(original: Model, settings: quant.GenerationSettings) -> Shape:
    """Frames, height and width of the videos, without loading the pipeline; a guess where its call does not say.

    Raises:
        QuantError: the pipeline is none of diffusers', or takes no such setting.
    """
    name, arguments = open_source(original.folder).call()
    settings.for_arguments(arguments, name)
    frames, height, width = (
        _size(name, settings, arguments.get(own), guess)
        for name, own, guess in (
            ("num_frames", frames_name(arguments) or "", _UNKNOWN[0]),
            ("height", "height", _UNKNOWN[1]),
            ("width", "width", _UNKNOWN[2]),
        )
    )
    return frames, height, width


def _size(name: str, settings: quant.GenerationSettings, argument: Argument | None, guess: int) -> int:
    given = settings.get(name) or (None if argument is None else settings.get(argument.name) or argument.default)
    return given if type(given) is int else guess


def _check_space(run: RunFolder, shape: Shape, missing: int) -> None:
    """Raises QuantError where the disk has no room for `missing` videos, by those that are there or else by pixels."""
    frames, height, width = shape
    there = [path.stat().st_size for path in run.path.glob("frames/*/*.mkv")]
    each = 4 / 3 * sum(there) / len(there) if there else _PIXEL * frames * height * width
    needed, free = int(each * missing), shutil.disk_usage(run.path).free
    if needed > free:
        raise QuantError(
            f"{run.path}: {missing} videos of {frames} frames of {width}x{height} take about {needed / 1e9:,.3g} GB, "
            f"and {free / 1e9:,.3g} GB are free: make room, choose another --out, or take fewer --samples"
        )


def _check_there(run: RunFolder, model: Model, missing: int) -> None:
    """Raises QuantError where videos are missing of a candidate that only the run's results know."""
    if model.gone and missing:
        raise QuantError(
            f"{run.path}: {missing} videos are missing of its candidate '{model.name}', and {model.source} is gone or "
            f"has other weights than it had (fingerprint {cut(model.fingerprint, 12)}): put it back, ask for no more "
            "samples, or begin another run with --name"
        )


def _sensitivities(config: EvaluationConfig, models: Sequence[Model]) -> dict[str, Any]:
    """Measured sensitivities by candidate's name; of a candidate that the run has, what is recorded will do.

    Raises:
        QuantError: names the file that is none.
    """
    found = {}
    for model in models:
        if model.name in config.sensitivity:
            path = Path(config.sensitivity[model.name])
            gone = model.recorded is not None and not path.is_file()
            found[model.name] = model.recorded["sensitivity"] if model.recorded and gone else _sensitivity(path)
    return found


def _sensitivity(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(quant.Sensitivity.from_json(read_text(path)).to_json())
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise QuantError(f"{path}: not a file of `quant sensitivity`: {error}") from None
    return dict(found)
