"""A component in its authors' names, whose layers may be several of diffusers' on top of each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from quant.checkpoint.shards import TensorPlan
from quant.errors import CheckpointError
from quant.exporting.contents import Contents
from quant.formats.layer import LayerFormat
from quant.pipelines.inputs.authors import in_authors_names, merged
from quant.pipelines.inputs.naming import Backwards
from quant.pipelines.inputs.pieces import Piece


class Named(NamedTuple):
    """A component in its authors' names.

    Attributes:
        backwards: how it got them.
        tensors: all of its tensors.
        layers: formats of the quantized layers, by their names there.
    """

    backwards: Backwards
    tensors: dict[str, TensorPlan]
    layers: dict[str, LayerFormat]


class _Rows(NamedTuple):
    """Rows of a tensor."""

    plan: TensorPlan
    start: int
    stop: int


def in_original_names(contents: Contents, encoded: Mapping[str, Mapping[str, TensorPlan]]) -> Named:
    """A component's tensors under its authors' names, those of quantized layers as they were encoded.

    Args:
        contents: the component.
        encoded: of each quantized layer, by the names of tensors in it. A tensor with as many rows as the weight has
            a row of its own for each; of any other, layers that become one have to have the same.

    Raises:
        ModelError: as `in_authors_names`.
        CheckpointError: layers that become one and are quantized in different ways, by name.
    """
    shapes = {name: (plan.dtype, plan.shape) for name, plan in contents.tensors.items()}
    component, where = contents.component, str(contents.where)
    backwards, made = in_authors_names(type(component.model), component.config, shapes, where)
    tensors: dict[str, TensorPlan] = {}
    layers: dict[str, LayerFormat] = {}
    for name, each in made.items():
        pieces = merged(each.pieces)
        coded = [contents.layer_of(piece.tensor) for piece in pieces]
        named = [layer for layer in coded if layer is not None]
        if not named:
            tensors[name] = _of_pieces(contents, pieces, tuple(each.shape))
            continue
        layer = name.removesuffix(".weight")
        layers[layer] = _one_format(contents, pieces, coded, layer)
        for leaf in encoded[named[0]]:
            rows = [
                _Rows(encoded[part][leaf], *_rows_of(piece, contents.layers[part].shape[1]))
                for part, piece in zip(named, pieces, strict=True)
            ]
            whole = contents.layers[named[0]].shape[0]
            tensors[f"{layer}.{leaf}"] = (
                _stacked(rows) if _by_row(rows[0].plan, whole) else _same(rows, layer, leaf, contents)
            )
    return Named(backwards, tensors, layers)


def _one_format(contents: Contents, pieces: Sequence[Piece], coded: Sequence[str | None], layer: str) -> LayerFormat:
    formats = {None if each is None else contents.layers[each].layer_format for each in coded}
    if len(formats) > 1:
        parts = " and ".join(f"'{piece.tensor}'" for piece in pieces)
        kinds = " and ".join("not at all" if each is None else each.label for each in formats)
        raise CheckpointError(
            f"{contents.where}: {parts} become one layer, '{layer}', and are quantized otherwise: {kinds}; give them "
            "one scheme in the recipe"
        )
    found = formats.pop()
    assert found is not None
    return found


def _by_row(plan: TensorPlan, n: int) -> bool:
    return len(plan.shape) > 0 and plan.shape[0] == n


def _rows_of(piece: Piece, columns: int) -> tuple[int, int]:
    return piece.start // columns, piece.stop // columns


def _same(rows: Sequence[_Rows], layer: str, leaf: str, contents: Contents) -> TensorPlan:
    first = rows[0].plan
    value = first.whole()
    if any(not torch.equal(each.plan.whole(), value) for each in rows[1:]):
        raise CheckpointError(
            f"{contents.where}: the parts of '{layer}' have a '{leaf}' each, and there it is one layer with one; a "
            "scheme with a scale for each row, such as W8A8, can be exported"
        )
    return first


def _stacked(rows: Sequence[_Rows]) -> TensorPlan:
    """Rows of tensors on top of each other."""
    if len(rows) == 1 and (rows[0].start, rows[0].stop) == (0, rows[0].plan.shape[0]):
        return rows[0].plan
    plan = rows[0].plan
    shape = (sum(each.stop - each.start for each in rows), *plan.shape[1:])

    def read(start: int, stop: int) -> torch.Tensor:
        parts, at = [], 0
        for each in rows:
            low, high = max(start - at, 0), min(stop - at, each.stop - each.start)
            if low < high:
                parts.append(each.plan.checked(each.start + low, each.start + high))
            at += each.stop - each.start
        # As bytes: torch does not join FP8 tensors everywhere.
        return torch.cat([part.contiguous().view(torch.uint8) for part in parts]).view(plan.dtype)

    return TensorPlan(plan.dtype, shape, read)


def _of_pieces(contents: Contents, pieces: Sequence[Piece], shape: tuple[int, ...]) -> TensorPlan:
    """A tensor that is not quantized, whose rows are rows of others."""
    plans = [contents.tensors[piece.tensor] for piece in pieces]
    if len(pieces) == 1 and plans[0].shape == shape:
        return plans[0]
    columns = math.prod(shape[1:])
    rows = [_Rows(plan, *_rows_of(piece, columns)) for plan, piece in zip(plans, pieces, strict=True)]
    return _stacked(rows)
