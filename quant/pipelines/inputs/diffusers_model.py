"""A component as diffusers saves it: its config.json names the class, which says what is in the files."""

from __future__ import annotations

from functools import partial

from quant.checkpoint.config import CONFIG_KEY
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.skeleton import skeleton
from quant.pipelines.weights import plans_of


class DiffusersModel(InputKind):
    """Files of the class that a config.json names in its `_class_name`."""

    def holds(self, files: Files) -> bool:
        return files.config is not None and "_class_name" in files.config

    def open(self, files: Files) -> Component:
        model = skeleton(files.config_folder or files.path, files.tensors)
        config = {key: value for key, value in (files.config or {}).items() if key != CONFIG_KEY}
        return Component(config, model, partial(plans_of, model, files.path, files.tensors))
