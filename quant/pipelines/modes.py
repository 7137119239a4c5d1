"""Dropout and batch norms while a model is calibrated: as when the model is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(models: Iterable[nn.Module]) -> Iterator[None]:
    """Puts all modules into eval mode within it, and each back into its own mode behind it, also after an error."""
    before = {module: module.training for model in models for module in model.modules()}
    try:
        for module in before:
            module.training = False
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
