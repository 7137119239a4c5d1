"""What is refused of a model in memory before any work: what cannot be quantized, or would become another model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from quant.errors import ModelError
from quant.text import first_line

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def check_model(model: nn.Module, where: str) -> None:
    """Refuses adapters, fused projections, offloading, and weights of other formats.

    Args:
        model: in memory.
        where: its name in errors.

    Raises:
        ModelError: with the remedy.
    """
    for name, module in model.named_modules():
        place = f"{where}.{name}" if name else where
        if _is_adapter(module):
            raise ModelError(
                f"{where} has a LoRA or another adapter loaded (at '{name}'), which would be quantized as if it were "
                "part of the model: fuse it (pipe.fuse_lora(); pipe.unload_lora_weights()) or unload it first"
            )
        registry = getattr(module, "_diffusers_hook", None)
        if any("offloading" in hook for hook in getattr(registry, "hooks", ())):
            raise ModelError(f"{place} is offloaded by diffusers (enable_group_offload): load the model without that")
        if getattr(module, "fused_projections", False) is True:
            raise ModelError(
                f"{place} has fused projections, which the model's class does not load: call "
                "unfuse_qkv_projections() and quantize again"
            )
    for name, parameter in model.named_parameters():
        _check_parameter(model, parameter, f"{where}.{name}")


def check_weight(weight: torch.Tensor, where: str) -> None:
    """Raises ModelError, with the remedy, where a layer to be quantized is of a dtype that none runs on."""
    if weight.dtype not in _FLOATS:
        raise ModelError(
            f"{where}.weight: is {_name(weight.dtype)}; quantized layers run on float32, bfloat16 and float16: cast "
            "the model, as with model.float(), or name the layer in the recipe's ignore"
        )


def check_copyable(model: nn.Module, where: str) -> None:
    """Raises ModelError, which names the part, where no copy of a model can be made. Copies all but its tensors.

    For before the work of hours that the copy would follow.
    """
    tensors: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    if _uncopyable(model, tensors) is None:
        return
    # A module comes before those within it, so the last that fails is the smallest.
    parts = reversed(list(model.named_modules()))
    name, reason = next((name, found) for name, part in parts if (found := _uncopyable(part, tensors)) is not None)
    place = f"{where}.{name}" if name else where
    raise ModelError(f"{place}: cannot be copied ({reason}), and what is returned is a copy: take off what it holds")


def _uncopyable(module: nn.Module, tensors: dict[int, Any]) -> str | None:
    try:
        copy.deepcopy(module, dict(tensors))
    except Exception as error:  # whatever a part's own attributes raise
        return first_line(error)
    return None


def _check_parameter(model: nn.Module, parameter: torch.Tensor, name: str) -> None:
    # torchao, bitsandbytes, GGUF and sharded tensors are Parameters of a class of their own.
    if type(parameter) is not nn.Parameter or type(parameter.data) is not torch.Tensor:
        kind = type(parameter.data if type(parameter) is nn.Parameter else parameter).__name__
        raise ModelError(
            f"{name}: is a {kind}, whose meaning is not known here: load the original in bfloat16 where another "
            "library has quantized or sharded the model, run a lazy model once, and make any other a plain nn.Parameter"
        )
    if parameter.is_complex():
        raise ModelError(
            f"{name}: is {_name(parameter.dtype)}, which no checkpoint holds: keep it as real numbers, as "
            "torch.view_as_real gives them"
        )
    if parameter.is_meta and any(hasattr(module, "_hf_hook") for module in model.modules()):
        raise ModelError(
            f"{name}: is on meta, because accelerate has offloaded the model: load it without offloading (no "
            "device_map, no enable_sequential_cpu_offload), or remove its hooks"
        )
    if parameter.is_floating_point() and parameter.itemsize == 1:
        raise ModelError(
            f"{name}: is {_name(parameter.dtype)} already (layerwise casting, or torch_dtype?): load the model in "
            "bfloat16"
        )
    if not parameter.is_floating_point():
        raise ModelError(f"{name}: is {_name(parameter.dtype)}, so the model is quantized already: load the original")


def _is_adapter(module: nn.Module) -> bool:
    """A layer of PEFT, by its class or by what it is made of."""
    if any(cls.__name__ == "BaseTunerLayer" for cls in type(module).__mro__):
        return True
    children: dict[str, Any] = module._modules
    return "base_layer" in children and any(name.startswith(("lora_", "loha_", "lokr_")) for name in children)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
