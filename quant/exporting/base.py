"""What a destination has to know: which layers another program can hold, and how they lie in its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch

from quant.checkpoint.shards import TensorPlan
from quant.exporting.contents import CodedLayer, Contents
from quant.formats.layer import LayerFormat


class Destination(ABC):
    """A layout of files that other programs read.

    A destination is one subclass in one file, listed in `quant.exporting.table`.

    Attributes:
        name: as `--to` takes it.
        summary: who reads it and what it holds, in a line.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def refuses(self, layer_format: LayerFormat) -> str | None:
        """Return why the layout cannot hold such a layer bit for bit, and what it would hold; None where it can."""

    @abstractmethod
    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        """Write the files of a component whose layers are not refused, a piece of a tensor at a time.

        Args:
            contents: of the component.
            work: an empty folder.
            name: for a file that a user will see among others, without an extension.
            max_bytes: largest size of a file's tensors, where the layout may have several.

        Returns:
            SHA-256 by name of the files that were hashed as they were written.

        Raises:
            QuantError: a component that the layout cannot hold as a whole.
        """


def shaped(plan: TensorPlan, shape: tuple[int, ...]) -> TensorPlan:
    """A small tensor in another shape of as many elements."""
    return mapped(plan, plan.dtype, shape, lambda whole: whole.reshape(shape))


def mapped(
    plan: TensorPlan, dtype: torch.dtype, shape: tuple[int, ...], does: Callable[[torch.Tensor], torch.Tensor]
) -> TensorPlan:
    """What a function makes of the whole of a small tensor, checked before."""

    def rows(start: int, stop: int) -> torch.Tensor:
        made = does(plan.whole())
        return made[start:stop] if shape else made

    return TensorPlan(dtype, shape, rows)


def scales_as_numbers(layer: CodedLayer) -> dict[str, TensorPlan]:
    """The tensors of a layer, a scale for all of a tensor as a number without dimensions."""
    return {leaf: shaped(plan, ()) if plan.shape == (1,) else plan for leaf, plan in layer.tensors.items()}


def weights_by_layer(contents: Contents, encoded: Mapping[str, Mapping[str, TensorPlan]]) -> dict[str, TensorPlan]:
    """All tensors in the model's order, in the place of each quantized weight what it was encoded as.

    Args:
        contents: the component.
        encoded: of each quantized layer, by the names of tensors in it.
    """
    found = {}
    for name, plan in contents.tensors.items():
        layer = contents.layer_of(name)
        if layer is None:
            found[name] = plan
        else:
            found.update({f"{layer}.{leaf}": each for leaf, each in encoded[layer].items()})
    return found
