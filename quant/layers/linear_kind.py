"""`nn.Linear` as a layer to be quantized, and what one that is more than weight and bias would lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized

from quant.layers.carrying import attributes, is_carried
from quant.layers.layer_kind import LayerKind

#: Hooks that `carry_over` does not copy: they see or change the tensors of a file.
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class LinearKind(LayerKind):
    """`nn.Linear`, and subclasses that do nothing else."""

    standard = True
    by_rows = True

    def holds(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Linear)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        n, k = shape
        return n, k

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight

    def rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        given: torch.Tensor = args[0] if args else kwargs["input"]
        return given.reshape(-1, given.shape[-1])

    def own_way(self, model: nn.Module, name: str, module: nn.Module, readers: Mapping[int, str]) -> str:
        return own_way(model, name, module, readers)


def own_way(model: nn.Module, name: str, linear: nn.Module, readers: Mapping[int, str]) -> str:
    """Why a Linear stays as it is, since a quantized layer would not do all that it does; empty where it would.

    Arguments as of `LayerKind.own_way`.
    """
    kind = type(linear)
    parent = model.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention) or isinstance(linear, NonDynamicallyQuantizableLinear):
        return "its weight is read by nn.MultiheadAttention"
    parametrized = next((tensor for tensor in ("weight", "bias") if is_parametrized(linear, tensor)), None)
    if parametrized is not None:
        return f"its {parametrized} is parametrized, which would be lost"
    if kind.forward is not nn.Linear.forward or kind.__call__ is not nn.Linear.__call__:
        return f"a {kind.__name__}: its own forward would be lost"
    if "forward" in vars(linear):
        by = (
            "accelerate or diffusers" if hasattr(linear, "_hf_hook") or hasattr(linear, "_diffusers_hook") else "a hook"
        )
        return f"its forward was replaced by {by}, which would be lost"
    tensors = {*linear._parameters, *linear._buffers} - {"weight", "bias"}
    if tensors:  # weight_norm and spectral_norm of the older kind, pruning, and layers of someone's own
        return f"has a tensor '{min(tensors)}' of its own, which would be lost"
    if linear._modules:
        return f"has a module '{next(iter(linear._modules))}' of its own, which would be lost"
    if any(getattr(linear, hooks) for hooks in _STATE_HOOKS):
        return "has a hook on its state_dict, which would be lost"
    extra = next((key for key, value in attributes(linear).items() if not is_carried(key, value)), None)
    if extra is not None:
        return f"has an attribute '{extra}' of its own, which would be lost"
    reader = readers.get(id(linear.weight))
    return "" if reader is None else f"its weight is also that of '{reader}'"
