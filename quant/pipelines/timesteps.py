"""What an input counts by the timestep that its denoiser was called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from quant.errors import CalibrationError


def timestep_of(model: nn.Module) -> Callable[[tuple[Any, ...], dict[str, Any]], float] | None:
    """Reads the timestep from the arguments of a denoiser's call; None where it takes none.

    The largest of a batch: where each frame has its own, those that are given, such as a first picture, have 0.
    """
    signature = inspect.signature(model.forward)
    if "timestep" not in signature.parameters:
        return None

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        given = signature.bind(*args, **kwargs).arguments["timestep"]
        return float(torch.as_tensor(given).max())

    return read


class TimestepWeights:
    """Equal parts of the noise schedule, from the noisiest to the cleanest, and what each counts.

    A part is one of the timestep over the largest that was seen, so a schedule from 1000 and one from 1 read alike.

    Attributes:
        now: what counts for the call that is being made; 1 before the first.
    """

    def __init__(self, weights: Sequence[float], largest: float = 0.0) -> None:
        """`largest` is the timestep that others are compared with, where it is known beforehand."""
        self.now = 1.0
        self._weights = tuple(weights)
        self._largest = largest

    def at(self, timestep: float) -> float:
        """The weight of a timestep, which is remembered where it is the largest so far."""
        self._largest = max(self._largest, timestep)
        clean = 1 - timestep / self._largest if self._largest > 0 else 0.0
        return self._weights[min(int(clean * len(self._weights)), len(self._weights) - 1)]

    def call(self, timestep: float) -> None:
        """From now on the call that is being made is one with this timestep: for calls that take turns."""
        self.now = self.at(timestep)

    @contextmanager
    def watching(self, models: Sequence[nn.Module]) -> Iterator[None]:
        """While it is open, `now` follows the calls of these denoisers.

        Raises:
            CalibrationError: a model that takes no timestep.
        """
        with ExitStack() as stack:
            for model in models:
                read = timestep_of(model)
                if read is None:
                    raise CalibrationError(
                        f"calibration.timestep_weights: {type(model).__name__} is not called with a 'timestep'"
                    )
                stack.callback(model.register_forward_pre_hook(self._hook(read), with_kwargs=True).remove)
            yield

    def _hook(self, read: Callable[[tuple[Any, ...], dict[str, Any]], float]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.now = self.at(read(args, kwargs))

        return hook
