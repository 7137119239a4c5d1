"""What a run is asked to do, as it lies in its folder: a run only grows, and its first request stays until it has.

`config.json` is what `results.json` is of, or what a run that has none was begun with. What adds to a run is written
to a file of its own and takes its place when all of it is done, so a command that fails leaves the run as it was. A run
grows from what it has finished: a request that was not is gone on with by `quant eval resume` or the same command, and
any other command takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.models import Model
from quant.eval.inputs.parsing import from_dict
from quant.eval.inputs.samples import Sample
from quant.eval.storage.files import write_json, write_text
from quant.eval.storage.fingerprints import OLD_DIGITS
from quant.eval.storage.folder import RunFolder
from quant.files.json_files import read_object
from quant.text import cut, first_line, shown


@dataclass(frozen=True)
class Request:
    """`fingerprints` are of all models by name; `conditions` and `provenance` as the results have them.

    `source` is the text of the configuration's file, where there is one.
    """

    config: EvaluationConfig
    samples: tuple[Sample, ...]
    conditions: Mapping[str, Any]
    provenance: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    source: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The keys and values of its file."""
        return {
            "config": self.config.to_dict(),
            "samples": [[sample.prompt, sample.seed, *filter(None, [sample.inputs])] for sample in self.samples],
            "conditions": dict(self.conditions),
            "provenance": dict(self.provenance),
            "fingerprints": dict(self.fingerprints),
            "source": self.source,
        }

    def after(self, earlier: Request) -> Request:
        """Joins this request to the earlier one of the same run: all candidates and samples of both, the earlier first.

        Where both say how to score or to time, this one does; what it does not speak of is as it was.
        """
        samples = sorted({*earlier.samples, *self.samples}, key=lambda sample: sample.id)
        return replace(
            self,
            config=self.config.after(earlier.config),
            samples=tuple(samples),
            fingerprints={**earlier.fingerprints, **self.fingerprints},
        )


def read_request(folder: Path, *, finished: bool = False) -> Request:
    """What the run in `folder` is to do: what it was last asked for, where that is not done yet and not `finished`.

    Raises:
        QuantError: it is no run, or one of a version that cannot be gone on with.
    """
    run = RunFolder(folder)
    file = run.next_config if run.next_config.is_file() and not finished else run.config
    none = f"{folder}: not the folder of a run: its {file.name} cannot be read"
    try:
        body = read_object(file, QuantError)
    except QuantError as error:
        raise QuantError(f"{none}: {error}") from None
    parts: list[Any] = [body.get(name) for name in ("config", "conditions", "provenance")]
    parts.append(body.get("fingerprints", {}))
    pairs: Any = body.get("samples")
    if not all(isinstance(part, dict) for part in parts) or not isinstance(pairs, list):
        raise QuantError(f"{none}: it lacks the models, samples or conditions")
    if not all(_is_sample(pair) for pair in pairs):
        raise QuantError(f"{none}: its samples are not pairs of a prompt and a seed")
    config, conditions, provenance, fingerprints = parts
    _check_conditions(conditions, none)
    samples = tuple(Sample(*pair) for pair in pairs)
    text = body.get("source") if isinstance(body.get("source"), str) else None
    read = from_dict(config, source=str(file), base=folder)
    return Request(read, samples, conditions, provenance, fingerprints, text)


def write_request(run: RunFolder, request: Request) -> None:
    """Writes down what is about to be done; over what was done, only `finish_request` writes."""
    begun = run.config.is_file() and run.results.is_file()
    write_json(run.next_config if begun else run.config, request.to_dict())


def finish_request(run: RunFolder, request: Request) -> None:
    """What was written down last is what the results are of. Raises QuantError where the disk refuses."""
    if request.source is not None:
        write_text(run.path / "config.yaml", request.source)
    try:
        if run.next_config.is_file():
            run.next_config.replace(run.config)
    except OSError as error:
        raise QuantError(f"{run.config}: cannot be written: {error.strerror}") from None


def check_models(folder: Path, models: Sequence[Model], known: Mapping[str, str]) -> None:
    """Refuses a candidate with other weights under the name of one that the run has.

    Args:
        known: fingerprints by name.

    Raises:
        QuantError: names the candidate, and says what to do.
    """
    for model in models:
        before = known.get(model.name, model.fingerprint)
        if before != model.fingerprint:
            raise QuantError(
                f"{folder}: has a candidate '{model.name}' of other weights (fingerprint {cut(str(before), 12)}; "
                f"{model.folder} has {cut(model.fingerprint, 12)}): give the new one another name in a config file, "
                "or begin another run with --name"
            )


def changed_conditions(now: Mapping[str, Any], begun: Mapping[str, Any]) -> str:
    """How the conditions of a run differ from those that it was begun under, in words."""
    changed = [name for name in now if name != "model" and now[name] != begun.get(name)]
    words = ", ".join(f"{name} {_plain(now[name])} was {_plain(begun.get(name))}" for name in changed)
    before = begun.get("fingerprint")
    if isinstance(before, str) and len(before) == OLD_DIGITS:
        words += "; fingerprints of that version did not read all of the weights, so its videos are made again"
    return words


def _plain(value: object) -> str:
    return cut(value, 80) if isinstance(value, str) else shown(value)


def _is_sample(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) not in (2, 3):
        return False
    prompt, seed, *more = pair
    return isinstance(prompt, str) and type(seed) is int and seed >= 0 and all(map(_is_row, more))


def _is_row(text: object) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _check_conditions(conditions: Mapping[str, Any], none: str) -> None:
    import quant

    kinds = {"model": str, "fingerprint": str, "settings": dict, "dtype": str, "device": str, "versions": dict}
    wrong = next((name for name, kind in kinds.items() if not isinstance(conditions.get(name), kind)), None)
    if wrong is not None:
        raise QuantError(f"{none}: its conditions have no '{wrong}'")
    try:
        quant.GenerationSettings(**conditions["settings"])
    except (QuantError, TypeError) as error:
        raise QuantError(f"{none}: {first_line(error)}") from None
