"""2:4 sparse weights as sparse tensor cores read them: of every four columns two values, and which two they are.

Each group of four columns has 4 bits: the index of the first value kept, and above it that of the second, which is
larger. Two groups share a byte of metadata, the first in the low bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from quant.kernels.layouts import nibbles

NAME = "sparse24"
GROUP = 4
#: Bytes of a weight looked at in one go by a CPU: few enough that what is computed of them stays in a core's cache.
_CHUNK = 2**19
#: By a GPU, which starts slowly.
_GPU_CHUNK = 2**26
#: A group as one integer, and its two values as one, by bytes of an element; wider elements are gathered one by one.
_WORDS = {1: (torch.int32, torch.int16), 2: (torch.int64, torch.int32)}
_NOT_24 = -1


def _kept(mask: int) -> int:
    """Metadata of a group whose bit i says whether column i is nonzero; a zero is kept where there are not two."""
    columns = [column for column in range(GROUP) if mask >> column & 1]
    if len(columns) > 2:
        return _NOT_24
    first = min(columns[0] if columns else 0, 2)
    second = columns[1] if len(columns) == 2 else first + 1
    return first | second << 2


_KEPT = [_kept(mask) for mask in range(2**GROUP)]


def compress(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight with at most two nonzero values in every four columns as those values and their places.

    `decompress` gives back every bit but the sign of zeros: a -0.0 counts as zero, and may come back as 0.0.

    Args:
        weight: [N, K], any dtype, any strides.

    Returns:
        values [N, K/2] of weight's dtype; metadata uint8 [N, ceil(K/8)].

    Raises:
        ValueError: K is no multiple of 4, or a group has more than two nonzero values.
    """
    if weight.ndim != 2 or weight.shape[1] % GROUP:
        raise ValueError(f"sparse24: weight must be [N, K] with K a multiple of {GROUP}, got {list(weight.shape)}")
    n, k = weight.shape
    values = torch.empty(n, k // 2, dtype=weight.dtype, device=weight.device)
    kept = torch.empty(n, k // GROUP, dtype=torch.uint8, device=weight.device)
    table = torch.tensor(_KEPT, dtype=torch.int32, device=weight.device)
    for start, groups in _chunks(weight):
        places = table.index_select(0, _masks(groups))
        if places.amin() == _NOT_24:
            row, column = divmod((start + int((places == _NOT_24).nonzero()[0])) * GROUP, k)
            raise ValueError(
                f"sparse24: row {row} has more than two nonzero values in columns {column} to {column + GROUP - 1}"
            )
        end = start + len(groups)
        _pick(groups, places, values.view(-1, 2)[start:end])
        kept.view(-1)[start:end] = places
    return values, nibbles.join(F.pad(kept, (0, kept.shape[1] % 2)))


def decompress(values: torch.Tensor, meta: torch.Tensor, k: int) -> torch.Tensor:
    """The weight [N, k] that `compress` was given, but for the sign of zeros.

    Args:
        values: [N, k/2].
        meta: uint8 [N, ceil(k/8)] as `compress` makes it: two different columns a group.

    Raises:
        ValueError: shapes that do not belong to [N, k].
    """
    fits = values.ndim == 2 and k % GROUP == 0 and values.shape[1] * 2 == k
    if not fits or meta.dtype != torch.uint8 or meta.shape != (*values.shape[:1], meta_width(k)):
        raise ValueError(
            f"sparse24: a weight [N, {k}] has values [N, {k // 2}] and metadata uint8 [N, {meta_width(k)}] with K a "
            f"multiple of {GROUP}, got {list(values.shape)} and {meta.dtype} {list(meta.shape)}"
        )
    weight = torch.empty(values.shape[0], k, dtype=values.dtype, device=values.device)
    places = nibbles.split(meta)[:, : k // GROUP].reshape(-1)
    pairs = _whole(values).view(-1, 2)
    for start, groups in _chunks(weight):
        end = start + len(groups)
        _place(pairs[start:end], places[start:end], groups)
    return weight


def is_24(weight: torch.Tensor) -> bool:
    """Has every four columns of a weight [N, K] at most two nonzero values? False where K is no multiple of 4.

    Raises:
        ValueError: not two dimensions.
    """
    if weight.ndim != 2:
        raise ValueError(f"sparse24: weight must be [N, K], got {list(weight.shape)}")
    if weight.shape[1] % GROUP:
        return False
    table = torch.tensor(_KEPT, dtype=torch.int32, device=weight.device)
    return all(bool(table.index_select(0, _masks(groups)).amin() != _NOT_24) for _, groups in _chunks(weight))


def meta_width(k: int) -> int:
    """Bytes of metadata of a row of `k` columns."""
    return -(-k // (2 * GROUP))


def _chunks(weight: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Stretches of a weight's groups [groups, 4], each with the number of its first; views where it is contiguous."""
    groups = _whole(weight).view(-1, GROUP)
    size = _CHUNK if weight.device.type == "cpu" else _GPU_CHUNK
    step = max(1, size // (GROUP * weight.itemsize))
    for start in range(0, len(groups), step):
        yield start, groups[start : start + step]


def _whole(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and at an address that a view as wider integers may begin at."""
    x = x.contiguous()
    return x.clone() if x.storage_offset() % GROUP else x


def _masks(groups: torch.Tensor) -> torch.Tensor:
    """Which of each four elements [groups, 4] are nonzero: int32 or int64 [groups], bit i for column i."""
    if groups.itemsize in _WORDS:
        word, bits = _WORDS[groups.itemsize][0], 8 * groups.itemsize
        x = groups.view(word).view(-1)
        ones = sum(1 << bits * column for column in range(GROUP))  # the lowest bit of every element
        most = ones * (2 ** (bits - 1) - 1)
        # Added to an element without its sign, the largest such number carries into the sign's place unless it is 0.
        flags = x.bitwise_and(most).add_(most)
        if not groups.is_floating_point():
            flags.bitwise_or_(x)  # the sign is a value's too; that of a float says nothing about zero
        flags = flags.bitwise_right_shift_(bits - 1).bitwise_and_(ones)
    else:
        bits = 8
        flags = groups.ne(0).view(torch.int32).view(-1)
    # Flag i, at bit i * bits, is moved to bit 3 * bits + i; no two of the 16 products meet.
    last = (GROUP - 1) * bits
    gather = sum(1 << last - column * (bits - 1) for column in range(GROUP))
    return (flags * gather).bitwise_right_shift_(last)


def _pick(groups: torch.Tensor, places: torch.Tensor, values: torch.Tensor) -> None:
    """Copies the elements of [groups, 4] that int32 `places` names into values [groups, 2]."""
    if groups.itemsize not in _WORDS:
        torch.gather(groups, 1, torch.stack((places & 3, places >> 2), 1).long(), out=values)
        return
    word, pair = _WORDS[groups.itemsize]
    bits = 8 * groups.itemsize
    x = groups.view(word).view(-1)
    first, second = _shifts(places.to(word), bits)
    low = x.bitwise_right_shift(first).bitwise_and_(2**bits - 1)
    high = torch.bitwise_right_shift(x, second, out=second).bitwise_left_shift_(bits)
    values.view(pair).view(-1).copy_(low.bitwise_or_(high))


def _place(values: torch.Tensor, places: torch.Tensor, groups: torch.Tensor) -> None:
    """Fills [groups, 4] with values [groups, 2] where uint8 `places` says, and zeros."""
    if values.itemsize not in _WORDS:
        groups.zero_().scatter_(1, torch.stack((places & 3, places >> 2), 1).long(), values)
        return
    word, pair = _WORDS[values.itemsize]
    bits = 8 * values.itemsize
    x = values.view(pair).view(-1).to(word)
    first, second = _shifts(places.to(word), bits)
    low = x.bitwise_and(2**bits - 1).bitwise_left_shift_(first)
    high = x.bitwise_right_shift_(bits).bitwise_and_(2**bits - 1).bitwise_left_shift_(second)
    groups.view(word).view(-1).copy_(low.bitwise_or_(high))


def _shifts(places: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the two elements of each group begin in its word, in bits."""
    each = bits.bit_length() - 1
    return (
        places.bitwise_and(3).bitwise_left_shift_(each),
        places.bitwise_and(12).bitwise_left_shift_(each - 2),
    )
