"""A call of a pipeline whose denoising steps are watched: as it reports them, or else as its scheduler takes them.

The noise is what the scheduler's first step is given: whatever a pipeline draws, encodes or mixes before, with the
generator that it was called with, is in it, and no family's way of preparing it has to be known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quant.files.data_sets import unlogged
from quant.files.model_paths import DENOISERS
from quant.pipelines.arguments import call_arguments

_REPORT = "callback_on_step_end"


def own_arguments(pipeline: Any, seed: int) -> dict[str, Any]:
    """What every call here is given besides its row: a new generator, on the CPU, and that frames become arrays."""
    ours = {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}
    arguments = call_arguments(pipeline)
    return {name: value for name, value in ours.items() if name in arguments}


@contextmanager
def watched(
    pipeline: Any, on_step: Callable[[object], object], on_noise: Callable[[Tensor], object] | None = None
) -> Iterator[dict[str, Any]]:
    """The keyword arguments by which one call of a pipeline reports; the pipeline is as before behind it.

    Args:
        pipeline: of diffusers, modular ones too.
        on_step: called behind each denoising step, with the latents where they are known.
        on_noise: called once with what the first step begins with: the scheduler's sample, or of a pipeline without a
            scheduler the denoiser's input.
    """
    reports = _REPORT in call_arguments(pipeline)
    scheduler = getattr(pipeline, "scheduler", None)
    first = None if on_noise is None else _Once(on_noise)

    def report(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(tensors.get("latents"))
        return {}

    with ExitStack() as stack:
        stack.enter_context(unlogged("diffusers.modular_pipelines"))  # an error of a block, which is raised as well
        if hasattr(scheduler, "step"):
            if first is not None or not reports:
                stack.enter_context(_stepping(scheduler, first, None if reports else on_step))
        elif first is not None:
            for name in DENOISERS:
                denoiser = getattr(pipeline, name, None)
                if isinstance(denoiser, nn.Module):
                    hook = functools.partial(_note_input, first)
                    stack.callback(denoiser.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield {_REPORT: report} if reports else {}


class _Once:
    """Hands the first tensor that it is given on, and no other."""

    def __init__(self, to: Callable[[Tensor], object]) -> None:
        self._to: Callable[[Tensor], object] | None = to

    def __call__(self, value: object) -> None:
        if self._to is not None and isinstance(value, Tensor):
            to, self._to = self._to, None
            to(value)


@contextmanager
def _stepping(
    scheduler: Any, first: Callable[[object], None] | None, on_step: Callable[[object], object] | None
) -> Iterator[None]:
    """Watches the steps of a scheduler, and of the copies that some pipelines make of it, by a class in its place.

    A method of the object alone would go into its copies, and step this one instead of them.
    """
    kind = type(scheduler)

    @functools.wraps(kind.step)  # pipelines ask its signature
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if first is not None:
            first(kwargs.get("sample", args[2] if len(args) > 2 else None))
        result = kind.step(self, *args, **kwargs)
        if on_step is not None:
            on_step(result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None))
        return result

    scheduler.__class__ = type(kind.__name__, (kind,), {"step": step, "__module__": kind.__module__})
    try:
        yield
    finally:
        scheduler.__class__ = kind


def _note_input(first: Callable[[object], None], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first(next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.ndim > 3), None))
