"""A tensor of a model's files that has not been read: what it is, and a function that reads rows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from quant.checkpoint.reader import StoredTensor, read_rows
from quant.checkpoint.shards import Coded


@dataclass(frozen=True)
class SourceTensor:
    """One tensor that files hold, or that several tensors of theirs mean together.

    Attributes:
        file: names it in errors; the first, where it is made of tensors of several.
        dtype: its name in safetensors, such as "BF16".
        shape: of the tensor.
        rows: reads rows start to stop of the first dimension, on the CPU; of a tensor without dimensions, all of it.
        scaled: are its values codes times scales, computed in float32? Then `dtype` is "F32", and says nothing of how
            precise they are.
        coded: those codes, where a config says what layer they are of.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    rows: Callable[[int, int], torch.Tensor]
    scaled: bool = False
    coded: Coded | None = None

    @property
    def of_codes(self) -> bool:
        """Are its values those of 8-bit floats, with scales or without?"""
        return self.scaled or self.dtype.startswith("F8_")

    def whole(self) -> torch.Tensor:
        """All of it."""
        return self.rows(0, self.shape[0] if self.shape else 1)


def as_stored(stored: Mapping[str, StoredTensor]) -> dict[str, SourceTensor]:
    """Tensors as the headers of their files describe them, by the same names."""
    return {
        name: SourceTensor(tensor.file, tensor.dtype, tensor.shape, partial(read_rows, name, tensor))
        for name, tensor in stored.items()
    }
