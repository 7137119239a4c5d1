"""A model as transformers saves it: its config.json names the class, which says which tensors are tables or Linears."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.shards import TRANSFORMERS_WEIGHTS
from quant.checkpoint.transformers_mark import MARK_KEY
from quant.errors import ModelError, QuantWarning
from quant.layers.fitting import unknown
from quant.pipelines.inputs.bare import Bare
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.configs import CONFIG
from quant.pipelines.inputs.tensors import SourceTensor
from quant.pipelines.skeleton import transformers_class, transformers_skeleton
from quant.pipelines.transformers_names import held_by_others, left_out, names_in_model
from quant.pipelines.weights import plans_of


class TransformersModel(InputKind):
    """Files of the class that a config.json names in its `architectures`."""

    def holds(self, files: Files) -> bool:
        return files.config is not None and transformers_class(files.config) is not None

    def open(self, files: Files) -> Component:
        config = {key: value for key, value in (files.config or {}).items() if key not in (CONFIG_KEY, MARK_KEY)}
        model = transformers_skeleton((files.config_folder or files.path) / CONFIG, config, files.tensors)
        tensors: dict[str, SourceTensor] = {}
        try:
            tensors = _renamed(model, files.tensors)
            other = _other(model, tensors)
            why = None if other is None else f"{type(model).__name__} names '{other}' otherwise"
        except ModelError as error:
            why = str(error)
        if why is not None:
            warnings.warn(
                f"{files.path}: is read by its names and shapes, for {why}",
                QuantWarning,
                stacklevel=2,
            )
            return replace(Bare().open(files), stem=TRANSFORMERS_WEIGHTS)
        return Component(
            config,
            model,
            partial(plans_of, model, files.path, tensors, tied=held_by_others(model, tensors)),
            stem=TRANSFORMERS_WEIGHTS,
            transformers=True,
        )


def _renamed(model: nn.Module, tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """The tensors of files by their names in the model's class, without those that transformers leaves."""
    needed = model.state_dict()
    names = names_in_model(model, tensors, needed)
    found = {names[name]: tensor for name, tensor in tensors.items()}
    left = found.keys() - needed.keys() - unknown(found, needed, left_out(model))
    return {name: tensor for name, tensor in found.items() if name not in left}


def _other(model: nn.Module, tensors: Mapping[str, SourceTensor]) -> str | None:
    """A tensor that the class or the files have and the other has not: older releases had other names."""
    needed = model.state_dict().keys()
    return min({*unknown(tensors, needed), *(needed - tensors.keys() - held_by_others(model, tensors))}, default=None)
