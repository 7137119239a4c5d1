"""The tensors of several layers as those of one that has all their rows, and each layer's part of them.

All as a checkpoint has them, of layers of one form that read one input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from quant.formats.layer import LayerForm
from quant.formats.scheme import BLOCK
from quant.kernels.layouts import nibbles

#: Tensors that such layers have in common; each has rows of its own of all others.
SHARED = ("input_scale", "pre_quant_scale")
Tensors = dict[str, torch.Tensor]


def unaligned(form: LayerForm, n: int) -> str | None:
    """Why no other rows can follow those of a layer with `n` outputs; None where they can."""
    if _strategy(form) != "block" or n % BLOCK[0] == 0:
        return None
    return f"has {n} rows, which end within a block of {BLOCK[0]}"


def joined(parts: Sequence[Mapping[str, torch.Tensor]], form: LayerForm, sizes: Sequence[int]) -> Tensors:
    """The tensors of one layer [sum of sizes, K].

    Copies, but for `SHARED`, which are those of the first. Where each layer has one scale, the whole has one a row.

    Args:
        parts: of each layer, bias included.
        form: of every layer.
        sizes: their outputs.
    """
    found = {}
    for leaf, first in parts[0].items():
        tensors = [part[leaf] for part in parts]
        if leaf in SHARED:
            found[leaf] = first
        elif leaf == "weight_shape":
            found[leaf] = _with_rows(first, sum(sizes))
        elif leaf == "weight_zero_point":
            unpacked = [nibbles.unpack_rows(tensor, n) for tensor, n in zip(tensors, sizes, strict=True)]
            found[leaf] = nibbles.pack_rows(torch.cat(unpacked))
        elif leaf == "weight_scale" and _strategy(form) == "tensor":
            found[leaf] = torch.cat([scale.expand(n, 1) for scale, n in zip(tensors, sizes, strict=True)])
        elif first.itemsize == 1:
            # As bytes: torch joins FP8 tensors on some devices only.
            found[leaf] = torch.cat([tensor.view(torch.uint8) for tensor in tensors]).view(first.dtype)
        else:
            found[leaf] = torch.cat(tensors)
    return found


def part(whole: Mapping[str, torch.Tensor], form: LayerForm, sizes: Sequence[int], index: int) -> Tensors:
    """The tensors of layer `index` of those that `joined` made: views where they are rows of a tensor, else copies."""
    start, n = sum(sizes[:index]), sizes[index]
    found = {}
    for leaf, tensor in whole.items():
        if leaf in SHARED:
            found[leaf] = tensor.clone()  # safetensors stores no memory under two names
        elif leaf == "weight_shape":
            found[leaf] = _with_rows(tensor, n)
        elif leaf == "weight_zero_point":
            found[leaf] = nibbles.pack_rows(nibbles.unpack_rows(tensor, sum(sizes))[start : start + n])
        elif leaf == "weight_scale" and _strategy(form) == "tensor":
            found[leaf] = tensor[start].clone()
        else:
            found[leaf] = tensor[_rows(leaf, form, start, n)]
    return found


def put(
    whole: Mapping[str, torch.Tensor],
    form: LayerForm,
    sizes: Sequence[int],
    index: int,
    leaf: str,
    value: torch.Tensor,
) -> None:
    """Writes one tensor of layer `index`, of the shape that `part` has it in, into `whole`."""
    tensor, start, n = whole[leaf], sum(sizes[:index]), sizes[index]
    if leaf == "weight_shape":
        return  # says what is known
    if leaf in SHARED:
        tensor.copy_(value)
    elif leaf == "weight_zero_point":
        rows = nibbles.unpack_rows(tensor, sum(sizes))
        rows[start : start + n] = nibbles.unpack_rows(value.to(tensor.device), n)
        tensor.copy_(nibbles.pack_rows(rows))
    else:
        tensor[_rows(leaf, form, start, n)].copy_(value)


def _rows(leaf: str, form: LayerForm, start: int, n: int) -> slice:
    """Where the rows of a layer are, of a tensor that has some for each."""
    size = BLOCK[0] if leaf == "weight_scale" and _strategy(form) == "block" else 1
    return slice(start // size, -(-(start + n) // size))


def _strategy(form: LayerForm) -> str | None:
    return None if form.scheme.weights is None else form.scheme.weights.strategy


def _with_rows(shape: torch.Tensor, n: int) -> torch.Tensor:
    """A `weight_shape` with another number of rows."""
    found = shape.clone()
    found[0] = n
    return found
