"""How much each layer's quantization alone moves a model's prediction, on the path that the original takes.

While the pipeline runs, its denoiser is called again at chosen steps with some of its layers replaced, and what it then
predicts is compared with what it predicted before. The pipeline goes on with the original's prediction, so every
layer is asked about the same inputs, and errors do not add up along a trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from quant.errors import CalibrationError
from quant.layers.following import at_timestep
from quant.layers.replace import replaced
from quant.pipelines.timesteps import timestep_of

#: Name of a layer -> what it is replaced with.
Replacements = Mapping[str, nn.Module]


@dataclass
class Errors:
    """Sums over all calls of one step of a schedule: of squared errors, and of squares of what was predicted."""

    error: float = 0.0
    power: float = 0.0

    @property
    def relative(self) -> float:
        """The root of their ratio."""
        return (self.error / self.power) ** 0.5 if self.power else 0.0


@dataclass
class Steps:
    """Counts the steps of a run by the timesteps that denoisers are called with, and says which are measured.

    Several calls of a step, as guidance makes them, and several denoisers, as Wan 2.2 has them, share its number.
    """

    chosen: frozenset[int]
    timesteps: dict[int, float] = field(default_factory=dict)
    begun: int = 0
    _now: int = -1
    _timestep: float | None = None

    def new_prompt(self) -> None:
        """The next call is the first of another prompt."""
        self._now, self._timestep = -1, None

    def at(self, timestep: float) -> int | None:
        """The step that a call with this timestep belongs to; None where it is not measured."""
        if timestep != self._timestep:
            self._now, self._timestep = self._now + 1, timestep
            self.begun += self._now in self.chosen
        if self._now not in self.chosen:
            return None
        self.timesteps[self._now] = timestep
        return self._now


def evenly(steps: int, count: int) -> frozenset[int]:
    """`count` of `steps` numbers from 0, the first and the last among them; all where there are no more."""
    if count >= steps:
        return frozenset(range(steps))
    if count == 1:
        return frozenset([steps // 2])
    return frozenset(round(i * (steps - 1) / (count - 1)) for i in range(count))


@contextmanager
def watching(
    model: nn.Module,
    units: Mapping[str, Replacements],
    steps: Steps,
    found: dict[str, dict[int, Errors]],
    on_unit: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """While it is open, each call of `model` at a measured step is repeated for every unit.

    Args:
        model: a denoiser whose call takes a `timestep`. It is left as it was.
        units: by name, the layers that are replaced together.
        steps: which calls are measured.
        found: gets unit -> step -> errors.
        on_unit: called after each repetition.

    Raises:
        CalibrationError: from the model's call, where it predicts no tensor, or one that is not finite.
    """
    read = timestep_of(model)
    assert read is not None

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        timestep = read(args, kwargs)
        step = steps.at(timestep)
        if step is None:
            return
        exact = _prediction(output)
        power = _finite(float(exact.square().sum()), "the original's prediction", step)
        for name, replacements in units.items():
            with replaced(module, replacements), at_timestep(replacements.values(), timestep):
                # Not module(...), which would come here again.
                other = _prediction(module.forward(*args, **kwargs))
            sums = found.setdefault(name, {}).setdefault(step, Errors())
            sums.error += _finite(
                float((other - exact).square().sum()), f"the prediction with '{name}' quantized", step
            )
            sums.power += power
            on_unit()

    handle = model.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _finite(value: float, what: str, step: int) -> float:
    if not math.isfinite(value):
        raise CalibrationError(f"{what} holds NaN or Inf at step {step + 1}, so nothing can be compared with it")
    return value


def _prediction(output: Any) -> torch.Tensor:
    """float64, whatever the class of a diffusers model returns."""
    first = output[0] if isinstance(output, tuple | list) else getattr(output, "sample", output)
    if not isinstance(first, torch.Tensor):
        raise CalibrationError(f"the denoiser returned {type(output).__name__}, in which no prediction was found")
    return first.detach().double()
