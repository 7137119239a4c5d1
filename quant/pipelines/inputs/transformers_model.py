"""A model as transformers saves it: its config.json names the class, which says which tensors are tables or Linears."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.errors import QuantWarning
from quant.layers.fitting import unknown, unused_of
from quant.pipelines.inputs.bare import Bare
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.configs import CONFIG
from quant.pipelines.inputs.tensors import SourceTensor
from quant.pipelines.skeleton import transformers_class, transformers_skeleton
from quant.pipelines.weights import plans_of

#: As `save_pretrained` of transformers names weights.
_STEM = "model"


class TransformersModel(InputKind):
    """Files of the class that a config.json names in its `architectures`."""

    def holds(self, files: Files) -> bool:
        return files.config is not None and transformers_class(files.config) is not None

    def open(self, files: Files) -> Component:
        config = {key: value for key, value in (files.config or {}).items() if key != CONFIG_KEY}
        model = transformers_skeleton((files.config_folder or files.path) / CONFIG, config, files.tensors)
        # What transformers keeps in float32 it does so for float16 alone, but for the strict ones.
        strict = getattr(model, "_keep_in_fp32_modules_strict", None)
        model._keep_in_fp32_modules = list(strict or ())  # type: ignore[assignment]
        tied = _tied(model)
        other = _other(model, tied, files.tensors)
        if other is not None:
            warnings.warn(
                f"{files.path}: is read by its names and shapes, for {type(model).__name__} names '{other}' otherwise",
                QuantWarning,
                stacklevel=2,
            )
            return replace(Bare().open(files), stem=_STEM)
        return Component(config, model, partial(plans_of, model, files.path, files.tensors, tied=tied), _STEM)


def _tied(model: nn.Module) -> set[str]:
    """Names of tensors that are each other's, of which a file has one."""
    found = getattr(model, "all_tied_weights_keys", None) or getattr(model, "_tied_weights_keys", None) or {}
    return {*found, *(found.values() if isinstance(found, Mapping) else ())}


def _other(model: nn.Module, tied: set[str], tensors: Mapping[str, SourceTensor]) -> str | None:
    """A tensor that the class or the files have and the other has not: older releases had other names."""
    needed = model.state_dict().keys()
    return min({*unknown(tensors, needed, unused_of(model)), *(needed - tensors.keys() - tied)}, default=None)
