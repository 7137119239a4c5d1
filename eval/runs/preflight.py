"""What is checked before the first video of a run: whatever would else be found after hours."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import quant
from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.models import Model, pipeline_class
from quant.eval.storage.folder import RunFolder
from quant.eval.videos.generating import complete
from quant.regular_files import read_text
from quant.text import cut

#: Frames, height, width.
Shape = tuple[int, int, int]
#: Bytes that a pixel takes on disk where nothing is measured yet: 16-bit frames without loss of noisy colours take
#: nearly their own 6, the 8-bit video without loss up to 2, features and preview little.
_PIXEL = 8


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


def expected_shape(original: Model, settings: quant.GenerationSettings) -> Shape:
    """Frames, height and width of the videos, without loading the pipeline.

    Raises:
        QuantError: the pipeline is none of diffusers', or has no default for what is not given.
    """
    kind, given = pipeline_class(original.folder), settings.given()
    frames, height, width = (complete(kind, given, name) for name in ("num_frames", "height", "width"))
    return frames, height, width


def check_space(run: RunFolder, shape: Shape, missing: int) -> None:
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


def check_there(run: RunFolder, model: Model, missing: int) -> None:
    """Raises QuantError where videos are missing of a candidate that only the run's results know."""
    if model.gone and missing:
        raise QuantError(
            f"{run.path}: {missing} videos are missing of its candidate '{model.name}', and {model.source} is gone or "
            f"has other weights than it had (fingerprint {cut(model.fingerprint, 12)}): put it back, ask for no more "
            "samples, or begin another run with --name"
        )


def read_sensitivities(config: EvaluationConfig, models: Sequence[Model]) -> dict[str, Any]:
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
