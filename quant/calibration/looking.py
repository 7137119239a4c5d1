"""Which calls a pipeline makes on an input, found out without making them all.

Nothing here knows a pipeline: which expert runs at which step, how often guidance calls it, how many parts a clip is
made in, how many steps a strength leaves. The pipeline itself is run, and each denoiser gives back what it gave the
first time for arguments of the same shapes: one real call instead of a hundred.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from quant.calibration.calls import Place
from quant.pipelines.rows import Row
from quant.pipelines.running import reports_steps, run_rows
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.timesteps import timestep_of


class Steps:
    """Gives each call its place, as calls are made.

    Steps are those that the pipeline reports; of one that reports none, a new one begins with each new timestep, or
    with each call where there is no timestep either.
    """

    def __init__(self, row: int, *, reported: bool) -> None:
        self.places: list[Place] = []
        self._row, self._step, self._reported = row, 0, reported

    def step_done(self) -> None:
        """The pipeline reports a step."""
        self._step += 1

    def call(self, component: str, timestep: float) -> None:
        """A denoiser is called."""
        if not self._reported and self.places and timestep != self.places[-1].timestep:  # NaN is no timestep's equal
            self._step += 1
        branch = sum(1 for each in self.places if (each.component, each.step) == (component, self._step))
        self.places.append(Place(component, self._row, self._step, branch, timestep))


def look(
    pipe: Any, models: Mapping[str, nn.Module], row: Row, number: int, settings: GenerationSettings, seed: int
) -> list[Place]:
    """The calls of denoisers that a pipeline makes on an input, in order.

    Args:
        pipe: the pipeline.
        models: its denoisers by name. They are left as they were.
        row: the input; `number` is its place among all, from 0.
        settings, seed: as `run_rows` gets them for all inputs.

    Raises:
        CalibrationError: as `run_rows`.
    """
    steps = Steps(number, reported=reports_steps(pipe))
    with ExitStack() as stack:
        for name, model in models.items():
            stack.enter_context(_standing_in(model, functools.partial(steps.call, name)))
        run_alone(pipe, row, settings, seed + number, steps.step_done)
    return steps.places


def run_alone(
    pipe: Any, row: Row, settings: GenerationSettings, seed: int, on_step: Callable[[], None] = lambda: None
) -> None:
    """As `run_rows` of one row, and the same whatever was run before: also what pipelines draw without a generator."""
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        run_rows(pipe, [row], settings, seed=seed, progress=False, on_step=on_step)


def reader(model: nn.Module) -> Callable[[tuple[Any, ...], dict[str, Any]], float]:
    """As `timestep_of`; NaN for every call of a model that takes no timestep."""
    return timestep_of(model) or (lambda args, kwargs: float("nan"))


@contextmanager
def _standing_in(model: nn.Module, on_call: Callable[[float], None]) -> Iterator[None]:
    """While it is open, the model computes only what it has not computed for arguments of these shapes."""
    read, compute, own = reader(model), model.forward, vars(model).get("forward")
    known: dict[Any, Any] = {}

    @functools.wraps(compute)
    def forward(*args: Any, **kwargs: Any) -> Any:
        on_call(read(args, kwargs))
        shapes = _shapes([args, kwargs])
        if shapes not in known:
            known[shapes] = compute(*args, **kwargs)
        return copy.deepcopy(known[shapes])  # a pipeline may add to what it is given

    model.forward = forward
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own


def _shapes(value: Any) -> Any:
    """What decides the shape of a denoiser's output: the shapes of tensors, and flags."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, list | tuple):
        return tuple(_shapes(each) for each in value)
    if isinstance(value, dict):
        return tuple((name, _shapes(each)) for name, each in value.items())
    return value if value is None or isinstance(value, bool | int | str) else type(value)
