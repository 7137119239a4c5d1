"""diffusers' group offloading of models with packed layers: each weight in the order of the device that runs it.

diffusers moves tensors between devices for each call, behind the layers' back, and its copies stay what they were when
it was enabled. So a weight is put into order then, and keeps it wherever it lies.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.layers.fused.part import Part
from quant.layers.replace import quantized_layers

_NAME = "enable_group_offload"


def order_for_group_offload(model: nn.Module) -> None:
    """Has `model.enable_group_offload` put packed weights into order first; a model without that method has nothing."""
    if hasattr(type(model), _NAME):
        vars(model)[_NAME] = partial(_enable, model)  # which a copied or pickled model has of its own


def _enable(model: Any, onload_device: torch.device | str, *args: Any, **kwargs: Any) -> None:
    """`enable_group_offload` of the model's class, with its arguments.

    Raises:
        ModelError: single layers of fused blocks are to be moved.
    """
    kind = inspect.signature(getattr(type(model), _NAME)).bind(model, onload_device, *args, **kwargs).arguments
    if kind.get("offload_type") == "leaf_level" and any(isinstance(part, Part) for part in model.modules()):
        raise ModelError(
            "layers of fused blocks are not offloaded one by one: offload_type='block_level', or load without "
            "fused=True"
        )
    for layer in quantized_layers(model).values():
        layer.order_for(torch.device(onload_device))
    getattr(type(model), _NAME)(model, onload_device, *args, **kwargs)
