"""The timestep of a denoiser's call, for layers that quantize their input otherwise in other parts of the schedule.

A denoiser knows of the noise schedule only the timestep that it is called with, in the numbers that it was trained on:
1000 sigma of a flow, a step of 1000 of DDPM, ln(sigma)/4 of EDM. Edges between bins are in those numbers, so nothing
has to be known of a sampler, and any of them finds its bins.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from quant.formats.steps import PreciseSteps

_NAME = "timestep"


class TimestepArgument:
    """Where a denoiser's call has its timestep."""

    def __init__(self, model: nn.Module) -> None:
        """Raises ValueError where a call of this model has none."""
        parameters = inspect.signature(model.forward).parameters
        if _NAME not in parameters:
            raise ValueError(f"{type(model).__name__} is not called with a '{_NAME}'")
        by_place = [name for name, each in parameters.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        self._place = by_place.index(_NAME) if _NAME in by_place else None

    def largest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
        """The largest timestep of a call, a float32 without dimensions; None where it was given none.

        Samples of a batch are made at one timestep. Where each token has its own, those of given frames have 0, and
        the largest is that of what is being made.
        """
        given = kwargs.get(_NAME)
        if given is None and self._place is not None and self._place < len(args):
            given = args[self._place]
        if given is None:
            return None
        tensor = given if isinstance(given, torch.Tensor) else torch.as_tensor(given)
        return tensor.detach().float().amax()


class Choice:
    """Whether the call that a model is in is at one of some steps.

    A plain value, by which torch.compile makes a graph for either answer of a block that is compiled alone.

    Attributes:
        steps: the steps.
        now: the answer; False between calls, None where only the device knows the timestep.
    """

    def __init__(self, steps: PreciseSteps) -> None:
        self.steps = steps
        self.now: bool | None = False


class Clock:
    """The timestep of the call that a model is in, which its layers read; None between calls.

    Without a graph break: under torch.compile it is a value of the graph, or an input of a block that is compiled
    alone. Outside of that it is always the same memory, so that it may be captured in a CUDA graph. A model is in one
    call at a time; what is computed again after a call, as gradients of checkpointed blocks are, is in none.

    Attributes:
        timestep: float32 without dimensions, on the device of the call's argument.
    """

    def __init__(self) -> None:
        self.timestep: torch.Tensor | None = None
        self._held: torch.Tensor | None = None
        self._choices: dict[PreciseSteps, Choice] = {}

    def choice(self, steps: PreciseSteps) -> Choice:
        """Whether the call is at one of these steps, from now on."""
        if steps not in self._choices:
            self._choices[steps] = Choice(steps)
            self._choose()
        return self._choices[steps]

    def begin(self, timestep: torch.Tensor | None) -> None:
        """A call with this timestep begins."""
        if timestep is None or torch.compiler.is_compiling():
            self.timestep = timestep
            self._choose()
            return
        if self._held is None or self._held.device != timestep.device:
            with torch.inference_mode(False):  # else no later call outside of it could write here
                self._held = torch.empty((), dtype=torch.float32, device=timestep.device)
        self._held.copy_(timestep)
        self.timestep = self._held
        self._choose()

    def end(self) -> None:
        """The call is over."""
        self.timestep = None
        self._choose()

    def _choose(self) -> None:
        """Answers all choices, after one wait for the device if there are any."""
        if not self._choices:
            return
        timestep = self.timestep
        if timestep is not None and (torch.compiler.is_compiling() or _capturing(timestep)):
            for choice in self._choices.values():
                choice.now = None
            return
        number = None if timestep is None else float(timestep)
        for choice in self._choices.values():
            choice.now = number is not None and choice.steps.holds(number)


def _capturing(timestep: torch.Tensor) -> bool:
    """Is a CUDA graph being captured, in which nothing may wait for the device?"""
    return timestep.is_cuda and torch.cuda.is_current_stream_capturing()
