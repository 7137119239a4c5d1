"""A diffusers model without weights: names, classes and shapes, for what has to be known before any is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.errors import ModelError
from quant.json_files import read_object


def model_class(component: Path) -> Any:
    """The diffusers class that a component's config.json names.

    Raises:
        ModelError: diffusers has no such class.
    """
    import diffusers

    name = read_object(component / "config.json").get("_class_name")
    cls = getattr(diffusers, str(name), None)
    if cls is None:
        raise ModelError(
            f"{component / 'config.json'}: '{name}' is no diffusers class; give the model to fill with into=module"
        )
    return cls


def skeleton(component: Path) -> nn.Module:
    """The model of a component's folder on the meta device, in eval mode. Raises ModelError as `model_class`."""
    config = {key: value for key, value in read_object(component / "config.json").items() if key != CONFIG_KEY}
    with torch.device("meta"):
        model = model_class(component).from_config(config)
    assert isinstance(model, nn.Module)
    return model.eval()
