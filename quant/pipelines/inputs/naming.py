"""The names that a model's authors gave its tensors: how files in them are known, and how diffusers' become them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch

from quant.pipelines.inputs.pieces import Traced

#: What names tensors as a class of diffusers does; takes `checkpoint` and `config`.
Names = Callable[..., Mapping[str, Traced]]


@dataclass(frozen=True)
class Backwards:
    """How tensors in diffusers' names become those of the authors, which diffusers' own maps do not say.

    What `names` makes is believed only where the map of reading makes the same model of it again
    (`quant.pipelines.inputs.authors`).

    Attributes:
        classes: names of diffusers' classes that it is for.
        names: tensors of a class, by their names in it, as the authors name, join and order them.
        architecture: what files in GGUF call such a model.
    """

    classes: tuple[str, ...]
    names: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
    architecture: str


class Naming(NamedTuple):
    """One way to name a model.

    Attributes:
        sign: a tensor that every model in these names has, and none in diffusers' own. Listed for speed: to ask
            diffusers takes seconds and 170 MB, which files of unknown models must not cost.
        names: by class, what names tensors anew, as diffusers' maps do; of other classes diffusers' own map does.
        backwards: the way back; None where it is not known here.
    """

    sign: str
    names: Mapping[str, Names] = MappingProxyType({})
    backwards: Backwards | None = None


def replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """The name in which each first part of a pair has become the second, one pair after the other."""
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return name
