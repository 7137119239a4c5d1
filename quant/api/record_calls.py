"""`quant.record`: what a model's denoisers are called with, kept so that many recipes are calibrated on one run."""

from __future__ import annotations

import gc
import json
import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.api.keeping import claim, keeping
from quant.calibration.calls import CALLS, INDEX, TENSORS, Calls, open_calls
from quant.calibration.preparing import checked_call, load_checked
from quant.calibration.provenance import model_hash, recording_record, recording_run
from quant.calibration.recording import Recorder
from quant.calibration.way import STEPS
from quant.checkpoint.folder import holding
from quant.checkpoint.free import check_free
from quant.errors import CalibrationError, CheckpointError, QuantWarning
from quant.fields import MOST, MOST_SEED
from quant.files.places import check_apart, is_file
from quant.pipelines.copying import places_of
from quant.pipelines.rows import Inputs, Row, read_any
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.source import Source, denoisers_of, open_source
from quant.text import shown

#: As many as the shipped recipes are calibrated on; of these, a recording runs a few.
SAMPLES = 32


def record(
    model: str | Path,
    out: str | Path,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    inputs: Inputs | None = None,
    calls: int = STEPS,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Calls:
    """Runs a pipeline over a few of the inputs and keeps what its denoisers are called with.

    The steps that are recorded are spread over the whole schedule, 4 of an input and at least 4 apart where there are
    enough of both, so 32 take 8 inputs. An input is run up to the last step that is recorded of it.

    Args:
        model: a pipeline folder or hub id.
        out: the folder to make. It appears when it is complete.
        prompts, inputs: as in `quant.calibrate`, one of both.
        calls: steps recorded of each denoiser, with all calls that guidance makes at a step.
        settings, dtype, device: as in `quant.calibrate`.
        samples: take the inputs from the first so many; by default 32, or all where there are fewer.
        seed: of the initial latents, and of which inputs are taken.
        progress: a bar on stderr.

    A recording that is killed goes on with the input it was at when the same call is made again, and ends in the same
    files. A warning says where what an interrupted run had done is dropped, because this one is about something else.

    Raises:
        QuantError: wrong input, each in one line; there is a recording already, or something else, at `out`.
        KeyboardInterrupt: with what can be done then.
    """
    out = Path(out)
    _check_number("calls", calls, 1, MOST)
    _check_number("seed", seed, 0, MOST_SEED)
    _check_number("samples", SAMPLES if samples is None else samples, 1, MOST)
    check_apart(out, [Path(model)], CheckpointError)
    _check_new(out)
    source = open_source(model)
    components = denoisers_of(source)
    check_apart(out, places_of(source), CheckpointError)
    how = GenerationSettings.read(source.folder).merged(**(settings or GenerationSettings()).given())
    name, arguments = checked_call(source, how)
    if (prompts is None) == (inputs is None):
        raise CalibrationError(f"{source.folder}: give one of prompts and inputs: what the pipeline is run on")
    rows = read_any(prompts, inputs, arguments, name, samples or SAMPLES, settings=how, enough=samples is not None)
    snapshot = Snapshot.of(source)
    return _recorded_to(out, What(source, components, rows, how, seed, calls, dtype), snapshot, device, progress)


@dataclass(frozen=True)
class What:
    """What is recorded.

    Attributes:
        source: the model.
        components: its denoisers.
        rows: inputs.
        settings: how the pipeline is called.
        seed: of the initial latents, and of which inputs are taken.
        steps: recorded of each denoiser.
        dtype: of the run.
    """

    source: Source
    components: Sequence[str]
    rows: Sequence[Row]
    settings: GenerationSettings
    seed: int
    steps: int
    dtype: torch.dtype

    def run(self, snapshot: Snapshot) -> dict[str, str]:
        """What its recording depends on, as hashes, and all of them: "key"."""
        return recording_run(
            self.source,
            self.components,
            snapshot,
            self.rows,
            self.settings,
            seed=self.seed,
            count=self.steps,
            dtype=self.dtype,
        )

    def about(self) -> dict[str, Any]:
        """What its recording says of where it comes from."""
        return recording_record(
            self.source, self.components, self.rows, self.settings, seed=self.seed, count=self.steps, dtype=self.dtype
        )

    def record(self, folder: Path, snapshot: Snapshot, device: str | None, progress: bool) -> Calls:
        """Records into a folder that nobody else writes to, or goes on there. The pipeline is gone afterwards.

        Raises:
            QuantError: as `Recorder.record`; the model changed meanwhile.
        """
        pipe, models = load_checked(self.source, self.components, self.dtype, device)
        key = self.run(snapshot)["key"]
        recorder = Recorder(pipe, models, self.rows, self.settings, seed=self.seed, folder=folder, key=key)
        made = recorder.record(self.steps, self.about(), progress=progress)
        snapshot.check("recorded")
        del recorder, pipe, models
        gc.collect()  # a pipeline's parts know each other
        torch.cuda.empty_cache()  # what is calibrated next asks how much is free
        return made


def record_for(what: What, out: Path, snapshot: Snapshot, device: str | None, progress: bool) -> Calls:
    """The recording that a user keeps of a calibration's inputs: made in `out`, or found there, of however many steps.

    Raises:
        QuantError: as `record`; the one that is there is of something else. Of which model it is, is not looked at.
    """
    if not is_file(out / INDEX):
        return _recorded_to(out, what, snapshot, device, progress)
    made = open_calls(out)
    wanted = json.loads(json.dumps(what.about()))
    differs = [part for part in ("inputs", "settings", "seed", "dtype") if made.about.get(part) != wanted[part]]
    if differs:
        raise CalibrationError(
            f"{out}: holds a recording that differs in its {' and '.join(differs)}; leave the inputs out to calibrate "
            "on it, or choose another folder"
        )
    return made


def _recorded_to(out: Path, what: What, snapshot: Snapshot, device: str | None, progress: bool) -> Calls:
    """Makes a recording in a folder, which appears when it is complete."""
    _check_new(out)
    with holding(out, force=False) as folder:
        claim(folder, what.run(snapshot))
        with keeping(folder, snapshot):
            made = what.record(folder.recorded, snapshot, device, progress)
            with folder.new() as work:
                for part in (CALLS, TENSORS):
                    _put(folder.recorded / part, work / part)
                shutil.copyfile(folder.recorded / INDEX, work / INDEX)
    for component in what.components:
        steps = len({(place.row, place.step) for place in made.places(component)})
        if steps < what.steps:
            warnings.warn(
                f"{out}: {steps} steps of '{component}' are recorded, {what.steps} were asked for: {len(what.rows)} "
                "inputs have no more of them",
                QuantWarning,
                stacklevel=3,
            )
    return open_calls(out)


def check_calls(
    calls: Calls,
    source: Source,
    components: Sequence[str],
    *,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Refuses a recording that a model is not to be calibrated on.

    Args:
        calls: the recording, of which every call is read.
        source: the model.
        components: those to be calibrated.
        settings: what was asked for, as far as it was.
        dtype: the same, of the model's.

    Raises:
        CalibrationError: it was made of another model, or called otherwise; it lacks a component; a file is damaged.
    """
    hashes, recorded = calls.about.get("model"), calls.about.get("settings")
    hashes = hashes.get("components") if isinstance(hashes, dict) else None
    if not isinstance(hashes, dict) or not isinstance(recorded, dict):
        raise CalibrationError(f"{calls.folder / INDEX}: damaged: it does not say of which model it is; record again")
    for component in components:
        if not calls.places(component):
            raise CalibrationError(f"{calls.folder}: '{component}' was not called when it was recorded; record again")
        if hashes.get(component) != model_hash(source, component):
            raise CalibrationError(
                f"{calls.folder}: was recorded of another '{component}' than {source.component_folder(component)}; "
                "record this model"
            )
    for name, value in (settings or GenerationSettings()).given().items():
        if recorded.get(name) != value:
            raise CalibrationError(
                f"{calls.folder}: was recorded with {name} {shown(recorded.get(name))}, not {shown(value)}; leave it "
                "out, or record again"
            )
    asked = None if dtype is None else str(dtype).removeprefix("torch.")
    if asked is not None and calls.about.get("dtype") != asked:
        raise CalibrationError(
            f"{calls.folder}: was recorded in {shown(calls.about.get('dtype'))}, not {asked}; take that or record again"
        )
    for component in components:
        for place in calls.places(component):
            calls.load(place)


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise CalibrationError(f"{name}: must be a whole number from {least} to {most:,}, got {shown(value)}")


def _check_new(out: Path) -> None:
    """Refuses an output that is there, before anything is read."""
    if is_file(out / INDEX):
        raise CheckpointError(f"{out}: already holds a recording; choose another --out, or remove it yourself")
    check_free(out, force=False)


def _put(source: Path, to: Path) -> None:
    """Gives files a second name, or a copy where a file system has one name for each: they are kept until all are."""
    to.mkdir()
    for path in sorted(source.glob("*.safetensors")):
        with suppress(OSError):
            os.link(path, to / path.name)
            continue
        shutil.copyfile(path, to / path.name)
