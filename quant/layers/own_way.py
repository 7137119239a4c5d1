"""What a layer is and does beyond its class of torch, which a quantized one in its place would lose."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from quant.layers.carrying import attributes, is_carried

#: Hooks that `carry_over` does not copy: they see or change the tensors of a file.
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def own_way(layer: nn.Module, runs_as_known: bool, readers: Mapping[int, str]) -> str:
    """Why a layer stays as it is, since a quantized layer would not do all that it does; empty where it would.

    Args:
        layer: with a weight and perhaps a bias.
        runs_as_known: would a quantized layer run as the layer's class does?
        readers: of `quant.layers.kinds.weight_readers`.
    """
    parametrized = next((tensor for tensor in ("weight", "bias") if is_parametrized(layer, tensor)), None)
    if parametrized is not None:
        return f"its {parametrized} is parametrized, which would be lost"
    if not runs_as_known:
        return f"a {type(layer).__name__}: its own forward would be lost"
    if "forward" in vars(layer):
        by = "accelerate or diffusers" if hasattr(layer, "_hf_hook") or hasattr(layer, "_diffusers_hook") else "a hook"
        return f"its forward was replaced by {by}, which would be lost"
    tensors = {*layer._parameters, *layer._buffers} - {"weight", "bias"}
    if tensors:  # weight_norm and spectral_norm of the older kind, pruning, and layers of someone's own
        return f"has a tensor '{min(tensors)}' of its own, which would be lost"
    if layer._modules:
        return f"has a module '{next(iter(layer._modules))}' of its own, which would be lost"
    if any(getattr(layer, hooks) for hooks in _STATE_HOOKS):
        return "has a hook on its state_dict, which would be lost"
    extra = next((key for key, value in attributes(layer).items() if not is_carried(key, value)), None)
    if extra is not None:
        return f"has an attribute '{extra}' of its own, which would be lost"
    reader = readers.get(id(layer.weight))
    return "" if reader is None else f"its weight is also that of '{reader}'"
