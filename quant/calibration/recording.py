"""Runs a pipeline once over a few inputs and keeps what its denoisers are called with at some steps.

Which steps is known before a run of an input begins: `sample_plan` says which parts of the schedule, and a look at the
pipeline which calls these are. So a run that was killed goes on with the input it was at, and ends in the same files.
An input is run up to the last call that is recorded, and inputs of which none is are not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from quant.calibration.calls import Calls, CallsWriter, Place, listed_place, plain_place
from quant.calibration.looking import look, reader, run_alone
from quant.calibration.sample_plan import Parts, row_order, sample_plan
from quant.calibration.schedule import SCHEDULE, timesteps_of
from quant.checkpoint.kept_files import keep, kept
from quant.errors import CalibrationError, UnrecordedError
from quant.pipelines.rows import Row
from quant.pipelines.settings import GenerationSettings

if TYPE_CHECKING:
    from tqdm import tqdm


class _Enough(BaseException):
    """Ends the run of an input of which all is recorded; no `except Exception` of a pipeline is in its way."""


#: What looks saw, by input, next to the calls until these are all there.
LOOKS = "looks"
_DIFFERS = (
    "the pipeline makes other calls than it made before on the same input, so what they are is not known in advance; "
    "switch off whatever leaves calls out, such as a cache"
)


class Recorder:
    """A recording that is being made.

    Attributes:
        writer: of its files; what a stopped run with the same key has written is used.
    """

    def __init__(
        self,
        pipe: Any,
        models: Mapping[str, nn.Module],
        rows: Sequence[Row],
        settings: GenerationSettings,
        *,
        seed: int,
        folder: Path,
        key: str,
    ) -> None:
        """`pipe`, on its device, with its denoisers by name; `folder` and `key` as `CallsWriter` takes them."""
        self.writer = CallsWriter(folder, key)
        self._pipe, self._models, self._rows, self._settings, self._seed = pipe, models, rows, settings, seed
        self._folder, self._key = folder, key

    def record(self, count: int, about: Mapping[str, Any], *, progress: bool = True) -> Calls:
        """Records `count` steps of each denoiser and finishes the recording.

        Args:
            count: steps of each denoiser, all calls of each; fewer where the inputs have no more.
            about: what recording.json says of where it comes from.
            progress: a bar over the steps that are run, with the time left, on stderr.

        Raises:
            UnrecordedError: as `CallsWriter.write`; a pipeline that makes other calls than it made when it was looked
                at.
            CalibrationError: as `run_rows`; a denoiser that is called with NaN.
        """
        from tqdm import tqdm

        first = self._look(row_order(len(self._rows), self._seed)[0])
        plan = sample_plan(
            {name: len(_steps(first, name)) for name in self._models}, len(self._rows), count, self._seed
        )
        chosen = {row: _chosen(first, parts) for row, parts in plan.items()}  # as long as all rows are like the first
        made: dict[str, list[Place]] = {name: [] for name in self._models}
        total = sum(map(_length, chosen.values()))
        with tqdm(
            total=total,
            desc=f"recording {count} steps of {' and '.join(self._models)} on {len(plan)} inputs",
            unit="step",
            disable=not progress,
        ) as bar:
            for row, parts in plan.items():
                seen = self._look(row)
                places = _chosen(seen, parts)
                for place in places:
                    made[place.component].append(place)
                missing = [place for place in places if not self.writer.has(place)]
                total += _length(missing) - _length(chosen[row])
                bar.total = total  # of what is left to run, so that the time left is right
                if missing:
                    self._run(row, seen, missing, bar)
        return self.writer.finish({**about, SCHEDULE: timesteps_of(first)}, made)

    def _look(self, row: int) -> list[Place]:
        """The calls on an input, which are kept with the recording until it is finished."""
        path = self._folder / LOOKS / f"{row}.safetensors"
        found = kept(path, key=self._key)
        if found is not None:
            return [listed_place(component, place) for component, place in json.loads(found[1]["calls"])]
        seen = look(self._pipe, self._models, self._rows[row], row, self._settings, self._seed)
        text = json.dumps([[place.component, plain_place(place)] for place in seen])
        keep(path, {}, {"key": self._key, "calls": text})
        return seen

    def _run(self, row: int, seen: Sequence[Place], wanted: Sequence[Place], bar: tqdm[Any]) -> None:
        """Runs an input up to the last of the wanted calls, writes these, and moves the bar with the steps."""
        calls, left, before = 0, len(wanted), int(bar.n)

        def on_call(component: str, timestep: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            nonlocal calls, left
            here = seen[calls] if calls < len(seen) else None
            if here is None or repr((here.component, here.timestep)) != repr((component, timestep)):
                raise UnrecordedError(f"{self._rows[row]}: {_DIFFERS}")
            bar.update(before + here.step - bar.n)
            calls += 1
            if here in wanted:
                _check(here, args, kwargs, self._rows[row])
                self.writer.write(here, args, kwargs)
                left -= 1
                if not left:
                    raise _Enough

        with _called(self._models, on_call):
            try:
                run_alone(self._pipe, self._rows[row], self._settings, self._seed + row)
            except _Enough:
                bar.update(before + _length(wanted) - bar.n)
                return
        raise UnrecordedError(f"{self._rows[row]}: {_DIFFERS}")


@contextmanager
def _called(
    models: Mapping[str, nn.Module], on_call: Callable[[str, float, tuple[Any, ...], dict[str, Any]], None]
) -> Iterator[None]:
    """While it is open, `on_call` is called before each call of a model."""

    def hook(name: str, model: nn.Module) -> Callable[..., None]:
        read = reader(model)
        return lambda module, args, kwargs: on_call(name, read(args, kwargs), args, kwargs)

    with ExitStack() as stack:
        for name, model in models.items():
            stack.callback(model.register_forward_pre_hook(hook(name, model), with_kwargs=True).remove)
        yield


def _steps(seen: Sequence[Place], component: str) -> list[int]:
    """The steps of an input at which a denoiser is called, in order."""
    return list(dict.fromkeys(place.step for place in seen if place.component == component))


def _chosen(seen: Sequence[Place], parts: Mapping[str, Parts]) -> list[Place]:
    """The calls on an input that are recorded, in order: all of a step, where guidance makes several."""
    steps = {name: _steps(seen, name) for name in parts}
    wanted = {(name, steps[name][i]) for name, each in parts.items() for i in each.steps(len(steps[name]))}
    return [place for place in seen if (place.component, place.step) in wanted]


def _length(places: Sequence[Place]) -> int:
    """Steps that are run of an input of which these calls are recorded."""
    return max((place.step + 1 for place in places), default=0)


def _may_be_nan(dtype: torch.dtype) -> bool:
    """Is it a dtype with NaN that torch finds? Of FP8 it has no `isnan`."""
    return (dtype.is_floating_point or dtype.is_complex) and dtype.itemsize > 1


def _check(place: Place, args: tuple[Any, ...], kwargs: Mapping[str, Any], row: Row) -> None:
    """Raises CalibrationError for an argument with NaN, by which all that is recorded later would be spoiled."""
    for name, value in [*enumerate(args, 1), *kwargs.items()]:
        if isinstance(value, torch.Tensor) and _may_be_nan(value.dtype) and bool(value.isnan().any()):
            raise CalibrationError(
                f"'{place.component}' is called with NaN in '{name}' at step {place.step + 1}, {row}; run the model in "
                "another --dtype or check its weights"
            )
