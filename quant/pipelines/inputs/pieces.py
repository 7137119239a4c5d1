"""Tensors of which only the elements' origin is known, to learn what a function does to weights without reading any.

A function that renames, splits and joins tensors of a dict is called with `Traced` ones; each tensor that comes out
says which stretches of which tensors it is made of, so that any rows of it can be read later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from quant.checkpoint.shards import DTYPES
from quant.errors import ModelError
from quant.pipelines.inputs.tensors import SourceTensor

_aten = torch.ops.aten
#: What changes neither an element nor their order.
_SAME = (
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.unsqueeze.default,
    _aten.alias.default,
    _aten.detach.default,
    _aten.clone.default,
)


class Piece(NamedTuple):
    """Elements start to stop of a tensor, row after row."""

    tensor: str
    start: int
    stop: int


class Traced(torch.Tensor):
    """A tensor without values.

    Attributes:
        pieces: what its elements are, in order.
    """

    pieces: tuple[Piece, ...]

    @staticmethod
    def of(shape: Sequence[int], dtype: torch.dtype, pieces: Sequence[Piece]) -> Traced:
        """A tensor of some pieces."""
        made: Traced = torch.Tensor._make_wrapper_subclass(Traced, shape, dtype=dtype)
        made.pieces = tuple(pieces)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Does to the elements' origin what `func` does. Raises NotImplementedError for new values or another order."""
        does = _DOES.get(func)
        if does is not None:
            return does(*args, **(kwargs or {}))
        if func not in _SAME:
            raise _unread(func, args[0])
        shape = func(torch.empty(args[0].shape, device="meta"), *args[1:], **(kwargs or {})).shape
        return Traced.of(shape, args[0].dtype, args[0].pieces)


def traced(tensors: Mapping[str, SourceTensor]) -> dict[str, Traced]:
    """The same tensors without values. Raises ModelError for a dtype that is not read here."""
    made = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise ModelError(f"{tensor.file}: tensor '{name}' is {tensor.dtype}, which is not read here")
        made[name] = Traced.of(tensor.shape, DTYPES[tensor.dtype], [Piece(name, 0, math.prod(tensor.shape))])
    return made


def trace(
    function: Callable[[dict[str, Traced]], Mapping[str, Traced]], tensors: Mapping[str, SourceTensor]
) -> tuple[dict[str, SourceTensor], list[str]]:
    """What a function makes of tensors, none of which is read before it is asked for, and the names of those it leaves.

    Args:
        function: takes a dict of tensors, which it may change, and returns one.
        tensors: what it is called with.

    Raises:
        ModelError: a dtype that is not read here.
        NotImplementedError: it needs values, or orders elements in another way than by renaming, splitting and joining.
    """
    made = function(traced(tensors))
    used = {piece.tensor for each in made.values() for piece in each.pieces}
    return {name: _source(each, tensors) for name, each in made.items()}, [name for name in tensors if name not in used]


def _source(made: Traced, tensors: Mapping[str, SourceTensor]) -> SourceTensor:
    shape, sources = tuple(made.shape), [tensors[piece.tensor] for piece in made.pieces]
    first = sources[0]
    if len(sources) == 1 and first.shape == shape:
        return first
    scaled = any(source.scaled for source in sources)
    return SourceTensor(first.file, first.dtype, shape, partial(_rows, shape, made.pieces, tensors), scaled)


def _rows(
    shape: tuple[int, ...], pieces: tuple[Piece, ...], tensors: Mapping[str, SourceTensor], start: int, stop: int
) -> torch.Tensor:
    """Rows start to stop of a tensor of some shape that is made of pieces."""
    row = math.prod(shape[1:])
    parts = [_elements(tensors[piece.tensor], piece) for piece in _cut(pieces, start * row, stop * row)]
    return _cat(parts).reshape((stop - start, *shape[1:]) if shape else ())


def _elements(tensor: SourceTensor, piece: Piece) -> torch.Tensor:
    """Elements of a tensor, of which no more rows are read than they are in."""
    row = math.prod(tensor.shape[1:])
    first = piece.start // row
    rows = tensor.rows(first, -(-piece.stop // row)).reshape(-1)
    return rows[piece.start - first * row : piece.stop - first * row]


def _cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Parts in a row; as bytes, for torch does not join FP8 tensors everywhere."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.contiguous().view(torch.uint8) for part in parts]).view(parts[0].dtype)


def _cut(pieces: Sequence[Piece], start: int, stop: int) -> list[Piece]:
    """Elements start to stop of those that pieces are, in order; at least one piece."""
    found, at = [], 0
    for piece in pieces:
        low, high = max(start - at, 0), min(stop - at, piece.stop - piece.start)
        at += piece.stop - piece.start
        if low < high:
            found.append(Piece(piece.tensor, piece.start + low, piece.start + high))
    return found or [Piece(pieces[0].tensor, pieces[0].start, pieces[0].start)]


def _joined(parts: Sequence[Traced], dim: int = 0) -> Traced:
    first = parts[0]
    dim %= first.ndim
    if math.prod(first.shape[:dim]) != 1 or any(part.dtype != first.dtype for part in parts):
        raise _unread(_aten.cat.default, first)
    shape = list(first.shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return Traced.of(shape, first.dtype, [piece for part in parts for piece in part.pieces])


def _chunks(tensor: Traced, size: int, dim: int = 0) -> list[Traced]:
    length = tensor.shape[dim]
    return _split(tensor, [min(size, length - start) for start in range(0, length, size)], dim)


def _split(tensor: Traced, sizes: Sequence[int], dim: int = 0) -> list[Traced]:
    found, start = [], 0
    for size in sizes:
        found.append(_slice(tensor, dim, start, start + size))
        start += size
    return found


def _slice(tensor: Traced, dim: int = 0, start: int | None = None, stop: int | None = None, step: int = 1) -> Traced:
    dim %= tensor.ndim
    length = tensor.shape[dim]
    low, high, step = slice(start, stop, step).indices(length)
    high = max(low, high)
    if (low, high, step) == (0, length, 1):
        return tensor
    if step != 1 or math.prod(tensor.shape[:dim]) != 1:
        raise _unread(_aten.slice.Tensor, tensor)
    inner = math.prod(tensor.shape[dim + 1 :])
    shape = [*tensor.shape[:dim], high - low, *tensor.shape[dim + 1 :]]
    return Traced.of(shape, tensor.dtype, _cut(tensor.pieces, low * inner, high * inner))


def _select(tensor: Traced, dim: int, index: int) -> Traced:
    dim %= tensor.ndim
    index %= tensor.shape[dim]
    part = _slice(tensor, dim, index, index + 1)
    return Traced.of([*part.shape[:dim], *part.shape[dim + 1 :]], part.dtype, part.pieces)


def _unread(func: Any, tensor: Any) -> NotImplementedError:
    name = f" of '{tensor.pieces[0].tensor}'" if isinstance(tensor, Traced) else ""
    return NotImplementedError(
        f"that needs {func}{name}, which is not done here; load it with the from_single_file of its class, and "
        "save_pretrained it"
    )


_DOES: dict[Any, Callable[..., Traced | list[Traced]]] = {
    _aten.cat.default: _joined,
    _aten.split.Tensor: _chunks,
    _aten.split_with_sizes.default: _split,
    _aten.slice.Tensor: _slice,
    _aten.select.int: _select,
}
