"""The models of a run: where each lies, what it holds, and how it is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import quant
from quant.errors import QuantError
from quant.eval.inputs.config import ORIGINAL, EvaluationConfig
from quant.eval.progress import Progress, silent
from quant.eval.storage.fingerprints import States, fingerprint, read_model, states
from quant.files.model_paths import DENOISERS, no_folder
from quant.pipelines.source import is_pipeline_folder, open_source


class FailedModelError(QuantError):
    """A model that cannot be loaded, raises when it is called, or makes videos that cannot be scored.

    A candidate's is reported with its name, and the run goes on with the others; the original's ends the run.

    Attributes:
        why: the message without the model's name.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.why = str(QuantError(why))


@dataclass(frozen=True)
class Model:
    """One model of a run. `source` is what the configuration says, `folder` where that lies here.

    `base` is the original where this one holds quantized components only; all others are the original's. `states` are
    of its files when the fingerprint was taken. `recorded` is the entry of the results for a candidate that the run has
    and that was not asked for now; `gone` says that only this is left of it, and the videos in the run.
    """

    name: str
    source: str
    folder: Path
    fingerprint: str
    base: Model | None = None
    states: States = field(default_factory=dict, compare=False, repr=False)
    recorded: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    gone: bool = False

    def check_unchanged(self) -> None:
        """Raises FailedModelError where its files, or those of its base, are not those of the fingerprint.

        Reads none that nobody wrote.
        """
        if self.base is not None:
            self.base.check_unchanged()
        try:
            changed = states(self.folder) != self.states and fingerprint(self.folder) != self.fingerprint
        except QuantError as error:
            raise FailedModelError(self.name, str(error)) from None
        if changed:
            raise FailedModelError(self.name, f"{self.folder} changed while the run went on; give the command again")


#: What `describe` says.
_DESCRIBED = ("scheme", "recipe", "calibration_prompts", "stored_bytes", "bf16_bytes")


class Loader(Protocol):
    """Makes a pipeline, as `load_pipeline` does."""

    def __call__(self, model: Model, dtype: str, device: str, shared: Mapping[str, Any] = ...) -> Any: ...


def find_models(config: EvaluationConfig, progress: Progress = silent) -> tuple[Model, ...]:
    """The original, then the candidates in their order. Raises QuantError where one cannot be found."""
    original = _model(ORIGINAL, config.model, None, progress)
    found = (find_candidate(name, source, original, progress) for name, source in config.candidates.items())
    return (original, *found)


def find_candidate(name: str, source: str, original: Model, progress: Progress = silent) -> Model:
    """A candidate of `original`. Raises QuantError where it cannot be found."""
    return _model(name, source, original, progress)


def load_pipeline(model: Model, dtype: str, device: str, shared: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A pipeline as stock diffusers loads it; of the original only what the model does not have itself.

    `shared` are modules of the original that a model of components takes by name, instead of loading them again.
    """
    import torch

    from quant.api import load_pipeline as loading

    files = loading.find_pipeline(model.folder, None if model.base is None else model.base.folder)
    pipeline = loading.load_pipeline(files, getattr(torch, dtype), shared={} if model.base is None else shared)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def describe(model: Model) -> dict[str, Any]:
    """Scheme, recipe, prompts it was calibrated on and sizes for the results; None where the folder does not say.

    Sizes are those of the quantized components, `bf16_bytes` what the same components take in bfloat16. For the
    original, and for a candidate that nothing is quantized in, they are those of the denoiser.
    """
    if model.gone and model.recorded is not None:
        return {name: model.recorded[name] for name in _DESCRIBED}
    if model.name == ORIGINAL:
        return {"scheme": "bf16", "recipe": None, "calibration_prompts": None, **_denoiser_sizes(model.folder)}
    try:
        found = quant.inspect(model.folder)
    except QuantError:  # a candidate need not be quantized: another precision, another finetune
        return {"scheme": "", "recipe": None, "calibration_prompts": None, **_denoiser_sizes(model.folder)}
    made = found.provenance or {}
    prompts = (made.get("calibration") or {}).get("prompts")
    schemes = {layer.scheme for part in found.components for layer in part.layers if layer.scheme}
    return {
        "scheme": ", ".join(sorted(schemes)),
        "recipe": made.get("recipe", {}).get("name"),
        "calibration_prompts": None if prompts is None else len(prompts),
        "stored_bytes": sum(part.nbytes for part in found.components),
        "bf16_bytes": sum(part.bf16_nbytes for part in found.components),
    }


def _denoiser_sizes(folder: Path) -> dict[str, int | None]:
    """Bytes of an unquantized denoiser's weights as stored, and in bfloat16; None where there are none."""
    from safetensors import SafetensorError, safe_open

    stored = values = 0
    for path in sorted(path for part in DENOISERS for path in folder.glob(f"{part}/*.safetensors")):
        stored += path.stat().st_size
        try:
            with safe_open(path, framework="pt") as file:
                values += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError, RuntimeError):  # whoever loads it gets the error
            return {"stored_bytes": None, "bf16_bytes": None}
    return {"stored_bytes": stored or None, "bf16_bytes": 2 * values or None}


def _model(name: str, source: str, original: Model | None, progress: Progress) -> Model:
    folder = Path(source)
    if not folder.is_dir():
        what = no_folder(folder)
        if what is not None:
            raise QuantError(f"{source}: {what}")
        if folder.is_absolute():
            raise QuantError(f"{source}: no such model folder")
        folder = open_source(source).folder
    whole = is_pipeline_folder(folder)
    if not whole and (original is None or not (folder / "quant_manifest.json").is_file()):
        raise QuantError(f"{source}: not a pipeline folder, it has no model_index.json")
    found, read = read_model(folder, progress, name)
    return Model(name, source, folder, found, None if whole else original, read)
