"""The entry `convolutions` of a quantization_config: their schemes by group, and the sizes of their windows by name.

The schema's own groups are about Linears, so that a reader which knows no other entry leaves these layers alone: their
names are also in its `ignore`. The tensors of a convolution are those of a Linear with the weight [N, K] that has all
input channels of the first tap of the window, then those of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from quant.errors import CheckpointError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme
from quant.text import shown

KEY = "convolutions"
_MOST_DIRECTIONS = 3
#: Positions of a window in one direction: more is no convolution of a model, and no number to multiply by.
_LONGEST = 2**16


def entry(layers: Mapping[str, LayerFormat]) -> dict[str, Any]:
    """The entry for those of some layers that are convolutions; empty where none is."""
    by_scheme: dict[Scheme, dict[str, list[int]]] = {}
    for name, layer in layers.items():
        if layer.kernel_size:
            by_scheme.setdefault(layer.scheme, {})[name] = list(layer.kernel_size)
    return {
        f"group_{i}": {"targets": targets, **({} if scheme.weights is None else scheme.to_dict())}
        for i, (scheme, targets) in enumerate(by_scheme.items())
    }


def groups(config: Mapping[str, Any], where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The groups of a config's entry. Raises CheckpointError where it is none."""
    found = config.get(KEY)
    if found is None:
        return ()
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{where}: {KEY}: must be a mapping of groups, got {shown(found)}")
    for key, group in found.items():
        if not isinstance(group, Mapping):
            raise CheckpointError(f"{where}: {KEY}.{key}: must be a mapping, got {shown(group)}")
    return found.items()


def targets(group: Mapping[str, Any], key: str, where: str) -> dict[str, tuple[int, ...]]:
    """The size of the window of every layer of a group. Raises CheckpointError for what is none."""
    found = group.get("targets")
    place = f"{where}: {KEY}.{key}.targets"
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{place}: must be a mapping of layers to sizes of windows, got {shown(found)}")
    for name, size in found.items():
        sound = isinstance(size, list) and 1 <= len(size) <= _MOST_DIRECTIONS
        if not sound or not all(type(each) is int and 1 <= each <= _LONGEST for each in size):
            raise CheckpointError(f"{place}.{name}: must be a list of 1 to {_MOST_DIRECTIONS} sizes, got {shown(size)}")
    return {name: tuple(size) for name, size in found.items()}
