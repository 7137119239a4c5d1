"""A model of diffusers in its authors' names: the map back, and the proof that the map of reading undoes it.

diffusers only maps one way. What is proposed here as the way back is followed without values, element by element, and
taken the way of reading again: only where each tensor of the model comes back whole and in order are the names used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from quant.errors import ModelError
from quant.pipelines.inputs.naming import Backwards, Naming
from quant.pipelines.inputs.original import NAMINGS, names_of
from quant.pipelines.inputs.pieces import Piece, Traced
from quant.pipelines.skeleton import in_our_words

REMEDY = "--to modelopt and --to compressed-tensors keep diffusers' names"


def in_authors_names(
    cls: type, config: Mapping[str, Any], tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], where: str
) -> tuple[Backwards, dict[str, Traced]]:
    """What tensors of a class are called and joined to by its authors, each as pieces of those that were given.

    Args:
        cls: of the model.
        config: of the model.
        tensors: dtypes and shapes, by their names in the class.
        where: its files, for errors.

    Raises:
        ModelError: the authors' names are not known here, or reading them again would give another model.
    """
    naming, backwards = _backwards(cls, where)
    given = {
        name: Traced.of(shape, dtype, [Piece(name, 0, math.prod(shape))]) for name, (dtype, shape) in tensors.items()
    }
    with in_our_words(f"{where}: its tensors cannot be given their authors' names", REMEDY):
        made: dict[str, Any] = backwards.names(given)
    with in_our_words(f"{where}: diffusers cannot read its tensors in their authors' names", REMEDY):
        again = names_of(naming, cls, where)(checkpoint=dict(made), config=dict(config))
    for name in [*given, *again]:
        if name not in again or name not in given or not _is_whole(again[name], name, given[name]):
            raise ModelError(f"{where}: '{name}' would not be read back from its authors' names; {REMEDY}")
    return backwards, made


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """The same elements in as few pieces as they are in."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].tensor == piece.tensor and found[-1].stop == piece.start:
            found[-1] = Piece(piece.tensor, found[-1].start, piece.stop)
        else:
            found.append(piece)
    return found


def _backwards(cls: type, where: str) -> tuple[Naming, Backwards]:
    known = [(naming, naming.backwards) for naming in NAMINGS if naming.backwards is not None]
    for naming, backwards in known:
        if cls.__name__ in backwards.classes:
            return naming, backwards
    names = ", ".join(name for _, backwards in known for name in backwards.classes)
    raise ModelError(
        f"{where}: the authors' names of {cls.__name__} are not known here, only those of {names}; {REMEDY}"
    )


def _is_whole(found: Traced, name: str, given: Traced) -> bool:
    return found.shape == given.shape and merged(found.pieces) == list(given.pieces)
