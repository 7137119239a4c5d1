"""What an evaluation found, and its JSON. Videos are not in here: they belong to the report."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Raised when a reader of the previous version would misunderstand a file.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Sample:
    """One video that every model made."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Measurement:
    """What was found for one model; every tuple has one entry a sample.

    `stored_bytes` are those of the quantized components, `bf16_bytes` what the same components take in bf16.
    `psnr` is in dB against the original, `inf` for an identical video; empty for the original itself. `judged`
    says by attribute whether the video shows what its prompt asks for; empty where no judge knows the prompts.
    """

    name: str
    scheme: str
    stored_bytes: int
    bf16_bytes: int
    seconds_per_step: float | None
    psnr: tuple[float, ...] = ()
    judged: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """One evaluation: the conditions, which are the same for every model, and the measurements.

    `calibration_prompts` is the most that a recipe was calibrated on; None where nobody noted it.
    """

    model: str
    settings: Mapping[str, Any]
    batch: int
    latents_sha256: str
    versions: Mapping[str, str]
    samples: tuple[Sample, ...]
    original: Measurement
    candidates: tuple[Measurement, ...]
    calibration_prompts: int | None = None
    format_version: int = FORMAT_VERSION


def write_results(results: Results, path: Path) -> None:
    """Writes `results` as JSON. It has no infinity, so an identical video's PSNR is written as null."""
    path.write_text(json.dumps(_without_infinity(asdict(results)), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_results(path: Path) -> Results:
    """The inverse of `write_results`. Raises ValueError for another format version."""
    data = json.loads(path.read_text(encoding="utf-8"))
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version!r} cannot be read here, only {FORMAT_VERSION}")
    samples = tuple(Sample(**sample) for sample in data.pop("samples"))
    candidates = tuple(_measurement(candidate) for candidate in data.pop("candidates"))
    original = _measurement(data.pop("original"))
    return Results(**data, samples=samples, original=original, candidates=candidates)


def _measurement(data: dict[str, Any]) -> Measurement:
    psnr = tuple(math.inf if value is None else value for value in data.pop("psnr"))
    judged = {attribute: tuple(verdicts) for attribute, verdicts in data.pop("judged").items()}
    return Measurement(**data, psnr=psnr, judged=judged)


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value
