"""Weights with two zeros in every four, as the tests of the sparse layouts make and decode them."""

from __future__ import annotations

import torch

from quant.kernels.layouts.sparse24 import meta_width

FP8 = torch.float8_e4m3fn
DTYPES = [torch.int8, FP8, torch.bfloat16, torch.float16]

#: Row and column of an element, to its bits.
Places = dict[tuple[int, int], int]


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.uint8 if x.itemsize == 1 else torch.int16)


def any_parts(n: int, k: int, dtype: torch.dtype, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of every bit pattern and metadata of every byte; a half byte behind the last column is 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-(2**15), 2**15, (n, k // 2), dtype=torch.int16, generator=generator)
    values = values.view(dtype) if dtype.itemsize == 2 else values.to(torch.uint8).view(dtype)
    meta = torch.randint(0, 256, (n, meta_width(k)), dtype=torch.uint8, generator=generator)
    if k % 8:
        meta[:, -1] &= 15
    return values, meta


def put(places: Places, row: int, column: int, number: int) -> None:
    """Notes an element, which nothing else may be."""
    assert (row, column) not in places, "two lanes hold one element"
    places[row, column] = number


def dense(kept: Places, groups: Places) -> Places:
    """What the kept values (by compressed column) and their groups' nibbles (by group) mean; zeros left out."""
    assert {(row, column // 2) for row, column in kept} == set(groups)
    found: Places = {}
    for (row, group), nibble in groups.items():
        first, second = nibble & 3, nibble >> 2
        assert first < second, f"{nibble:#x} is no metadata in order"
        put(found, row, 4 * group + first, kept[row, 2 * group])
        put(found, row, 4 * group + second, kept[row, 2 * group + 1])
    return {place: number for place, number in found.items() if number}


def of(weight: torch.Tensor) -> Places:
    """The elements of a weight that are not 0."""
    return {(row, column): int(bits(weight)[row, column]) for row, column in weight.float().nonzero().tolist()}
