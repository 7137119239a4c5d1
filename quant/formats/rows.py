"""The tensors of several layers as those of one that has all their rows, and each layer's part of them.

All as a checkpoint has them, of layers of one format that read one input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from quant.formats.base import Tensors
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of

#: Tensors that such layers have in common; each has rows of its own of all others.
SHARED = ("input_scale", "bin_edges", "pre_quant_scale")


def joined(parts: Sequence[Mapping[str, torch.Tensor]], layer_format: LayerFormat, sizes: Sequence[int]) -> Tensors:
    """The tensors of one layer [sum of sizes, K].

    Copies, but for `SHARED`, which are those of the first. Where each layer has one scale, the whole has one a row.

    Args:
        parts: of each layer, bias included.
        layer_format: of every layer.
        sizes: their outputs.
    """
    kind = format_of(layer_format)
    return {
        leaf: first if leaf in SHARED else kind.join_rows(leaf, [part[leaf] for part in parts], sizes)
        for leaf, first in parts[0].items()
    }


def part(whole: Mapping[str, torch.Tensor], layer_format: LayerFormat, sizes: Sequence[int], index: int) -> Tensors:
    """The tensors of layer `index` of those that `joined` made: views where they are rows of a tensor, else copies."""
    kind = format_of(layer_format)
    # safetensors stores no memory under two names
    return {
        leaf: tensor.clone() if leaf in SHARED else kind.take_rows(leaf, tensor, sizes, index)
        for leaf, tensor in whole.items()
    }


def put(
    whole: Mapping[str, torch.Tensor],
    layer_format: LayerFormat,
    sizes: Sequence[int],
    index: int,
    leaf: str,
    value: torch.Tensor,
) -> None:
    """Writes one tensor of layer `index`, of the shape that `part` has it in, into `whole`."""
    if leaf in SHARED:
        whole[leaf].copy_(value)
    else:
        format_of(layer_format).put_rows(leaf, whole[leaf], sizes, index, value)
