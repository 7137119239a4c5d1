"""The packed layers of a component as its config and the headers of its tensors have them, where no class is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.exports.table import export_of, stored_layers
from quant.checkpoint.reader import StoredTensor, read_tensor
from quant.errors import CheckpointError
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of
from quant.layers.fitting import check_tensor

#: Beginnings of the names of tensors that only quantized layers have, of which each has one.
_SIGNS = ("weight_", "low_rank_")


def layers_of_tensors(config: Mapping[str, Any], tensors: Iterable[str], where: str) -> dict[str, LayerFormat]:
    """The layers that a quantization_config says are packed, among those whose tensors are there.

    Raises:
        CheckpointError: as `quant.checkpoint.exports.table.stored_layers`.
    """
    names = dict.fromkeys(tensors)
    signed = [layer for layer, _, leaf in (name.rpartition(".") for name in names) if leaf.startswith(_SIGNS)]
    sparse = [layer for layer in export_of(config, where).sparse(config, where) if f"{layer}.weight" in names]
    return stored_layers(config, dict.fromkeys([*signed, *sparse]), where)


def tensors_of(name: str, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of one layer, by their names within it."""
    return {key.removeprefix(f"{name}."): found for key, found in tensors.items() if key.rpartition(".")[0] == name}


def stored_size(name: str, own: Mapping[str, StoredTensor], layer: LayerFormat, path: Path) -> tuple[int, int]:
    """N and K of a packed layer's weight, as its tensors say it.

    Args:
        name: the layer's.
        own: its tensors, by their names within it.
        layer: what it is stored as.
        path: the component, for errors.

    Raises:
        CheckpointError: a tensor that says it is missing, or they say different things, or it is no matrix.
    """

    def read(leaf: str) -> torch.Tensor:
        if leaf not in own:
            raise CheckpointError(f"{path}: has no tensor '{name}.{leaf}'; is a shard missing?")
        check_tensor(f"{name}.{leaf}", kind.layout(1, 1)[leaf], own[leaf])
        return read_tensor(f"{name}.{leaf}", own[leaf])

    kind = format_of(layer)
    if kind.main not in own:
        raise CheckpointError(f"{path}: has no tensor '{name}.{kind.main}'; is a shard missing?")
    try:
        shape = kind.size(name, {leaf: tensor.shape for leaf, tensor in own.items()}, read)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if len(shape) != 2:
        raise CheckpointError(f"{path}: the weight of '{name}' is {list(shape)}, where a matrix is needed")
    return shape[0], shape[1]
