"""The timestep that a denoiser is called with while statistics are gathered, and what an input counts by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

from quant.errors import CalibrationError
from quant.layers.clock import TimestepArgument

#: Of the call that is being made. A context of its own for each thread and greenlet, so that calls may take turns.
_NOW: ContextVar[float | None] = ContextVar("timestep", default=None)


def timestep_of(model: nn.Module) -> Callable[[tuple[Any, ...], dict[str, Any]], float] | None:
    """Reads the timestep, the largest of a batch, from the arguments of a denoiser's call; None where it takes none.

    What is returned raises CalibrationError for a call without one.
    """
    try:
        argument = TimestepArgument(model)
    except ValueError:
        return None

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        found = argument.largest(args, kwargs)
        if found is None:
            raise CalibrationError(f"{type(model).__name__} was called without a timestep")
        return float(found)

    return read


def current_timestep() -> float | None:
    """The timestep of the call that is being made of a denoiser that is followed; None before the first."""
    return _NOW.get()


@contextmanager
def following(models: Sequence[nn.Module], what: str, see: Callable[[float], object] | None = None) -> Iterator[None]:
    """While it is open, `current_timestep` is that of these denoisers' calls.

    Args:
        models: whose calls take a timestep.
        what: of a recipe needs this, for errors.
        see: is given the timestep of each call.

    Raises:
        CalibrationError: a model that takes no timestep.
    """

    def hook(read: Callable[[tuple[Any, ...], dict[str, Any]], float]) -> Callable[..., None]:
        def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            timestep = read(args, kwargs)
            _NOW.set(timestep)
            if see is not None:
                see(timestep)

        return begin

    with ExitStack() as stack:
        stack.callback(_NOW.reset, _NOW.set(None))
        for model in models:
            read = timestep_of(model)
            if read is None:
                raise CalibrationError(f"{what}: {type(model).__name__} is not called with a 'timestep'")
            stack.callback(model.register_forward_pre_hook(hook(read), with_kwargs=True).remove)
        yield


class TimestepWeights:
    """Equal parts of the noise schedule, from the noisiest to the cleanest, and what each counts.

    A part is one of the timestep over the largest that was seen, so a schedule from 1000 and one from 1 read alike.
    """

    def __init__(self, weights: Sequence[float], largest: float = 0.0) -> None:
        """`largest` is the timestep that others are compared with, where it is known beforehand."""
        self._weights = tuple(weights)
        self._largest = largest

    @property
    def now(self) -> float:
        """What counts for the call that is being made; 1 before the first."""
        timestep = current_timestep()
        return 1.0 if timestep is None else self.at(timestep)

    def at(self, timestep: float) -> float:
        """The weight of a timestep, which is remembered where it is the largest so far."""
        self._largest = max(self._largest, timestep)
        clean = 1 - timestep / self._largest if self._largest > 0 else 0.0
        return self._weights[min(int(clean * len(self._weights)), len(self._weights) - 1)]
