"""What this program knows of one denoiser, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Denoiser:
    """A class of diffusers, with the published models of one architecture.

    Attributes:
        cls: diffusers' class name.
        real: published models by the name that their authors give them: arguments of the class that are not its
            defaults. No two are of one name.
        tiny: the same architecture with a few tens of thousands of parameters. Widths are multiples of 32 wherever
            the class allows, so that groups of 32 columns fit.
        call: arguments of one forward pass of the tiny model, all noise from the generator. It gets the model because
            one of them (Wan-Animate-2) needs a first pass.
        pipelines: diffusers' pipelines that run them.
    """

    cls: str
    real: Mapping[str, Mapping[str, Any]]
    tiny: Mapping[str, Any]
    call: Callable[[nn.Module, torch.Generator], Inputs]
    pipelines: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first of the published models, by which this one is called."""
        return next(iter(self.real))

    def make_real(self, name: str) -> nn.Module:
        """One of the published models on the meta device: no memory, no weights."""
        with torch.device("meta"):
            return self._made(self.real[name])

    def make_tiny(self, seed: int = 0) -> nn.Module:
        """The tiny model in float32, in eval mode, its weights drawn from a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._made(self.tiny)
            _fill_zeros(model)
        return model

    def inputs(self, model: nn.Module, seed: int = 0) -> Inputs:
        """Arguments of a forward pass of the tiny model, drawn from a seed."""
        return self.call(model, torch.Generator().manual_seed(seed))

    def _made(self, config: Mapping[str, Any]) -> nn.Module:
        import diffusers  # seconds, which a listing of names does without

        model = getattr(diffusers, self.cls)(**config)
        assert isinstance(model, nn.Module)
        return model.eval()


def _fill_zeros(model: nn.Module) -> None:
    """Draws weights that a class starts at zero, such as gates and last layers: with them, no layer would matter."""
    for weight in model.parameters():
        if weight.ndim > 1 and not weight.any():
            nn.init.normal_(weight, std=0.1)


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal float32 numbers."""
    return torch.randn(shape, generator=generator)


def timesteps(generator: torch.Generator, *shape: int) -> Tensor:
    """Whole timesteps between 1 and 999, int64."""
    return torch.randint(1, 1000, shape, generator=generator)


def outputs(result: object) -> list[Tensor]:
    """Every tensor that a forward pass gave, in order."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, Mapping):  # diffusers' outputs are ordered dicts
        result = tuple(result.values())
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in outputs(item)]
    return []
