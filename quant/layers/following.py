"""Gives the layers of a denoiser that have bins or steps of the noise schedule the timestep of each of its calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.layers.clock import Clock, TimestepArgument
from quant.layers.layer import QuantLayer
from quant.layers.replace import quantized_layers


class Follower:
    """Sets a clock by the calls of one model.

    Its methods are the model's hooks, bound, so that a copy of the model has a clock of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        """Raises ValueError where a call of the model has no timestep."""
        self.clock = Clock()
        self._argument = TimestepArgument(model)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The hook before a call."""
        self.clock.begin(self._argument.largest(args, kwargs))

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """The hook behind it, also where it fails: a layer that is then run alone is in no call."""
        self.clock.end()


def follow_timesteps(model: nn.Module) -> None:
    """Has the layers with bins or steps choose by the timestep that `model` is called with; once, also if called again.

    Raises:
        ModelError: it has such layers and is not called with a timestep.
    """
    choosing = _choosing(quantized_layers(model).values())
    if not choosing:
        return
    owners = (getattr(hook, "__self__", None) for hook in model._forward_pre_hooks.values())
    follower = next((owner for owner in owners if isinstance(owner, Follower)), None)
    if follower is None:
        try:
            follower = Follower(model)
        except ValueError as error:
            raise ModelError(
                f"{error}, by which its layers choose how they quantize their inputs: is it the denoiser?"
            ) from None
        model.register_forward_pre_hook(follower.before, with_kwargs=True)
        model.register_forward_hook(follower.after, always_call=True)
    for layer in choosing:
        layer.follow(follower.clock)


@contextmanager
def on_clock(modules: Iterable[nn.Module], clock: Clock) -> Iterator[None]:
    """While it is open, those of some modules that are layers with bins or steps are in the call that a clock is in."""
    choosing = _choosing(modules)
    before = [layer.clock for layer in choosing]
    for layer in choosing:
        layer.follow(clock)
    try:
        yield
    finally:
        for layer, own in zip(choosing, before, strict=True):
            layer.follow(own)


@contextmanager
def at_timestep(modules: Iterable[nn.Module], timestep: float) -> Iterator[None]:
    """While it is open, those of some modules that are layers with bins or steps are in a call with this timestep."""
    clock = Clock()
    clock.begin(torch.tensor(timestep))
    with on_clock(modules, clock):
        yield


def _choosing(modules: Iterable[nn.Module]) -> list[QuantLayer]:
    return [module for module in modules if isinstance(module, QuantLayer) and module.layer_format.by_timestep]
