"""Linears that are more than weight and bias: what a quantized layer in their place would lose."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized

from quant.modules.carrying import attributes, is_carried

#: Hooks that `carry_over` does not copy: they see or change the tensors of a file.
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def own_way(model: nn.Module, name: str, linear: nn.Module, readers: Mapping[int, str]) -> str:
    """Why a Linear stays as it is, since a quantized layer would not do all that it does; empty where it would.

    Args:
        model: whose layer `name` it is.
        readers: of `weight_readers`.
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


def weight_readers(model: nn.Module) -> dict[int, str]:
    """Parameters that modules other than Linears hold, such as embeddings: by identity, the first module's name."""
    found: dict[int, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            for parameter in module._parameters.values():
                if parameter is not None:
                    found.setdefault(id(parameter), name or type(module).__name__)
    return found
