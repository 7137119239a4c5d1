"""LoRA on a diffusers model with packed layers: its own methods, once PEFT knows such layers, and what they cost.

Each method here is put on the model itself, bound to it, so that a copied or pickled model has its own.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from quant.errors import ModelError, QuantWarning
from quant.layers.fused.part import Part

#: The first release of PEFT whose layers are made as `quant.layers.lora_layers` makes them.
_OLDEST = (0, 21)


def take_adapters(model: Any) -> None:
    """Has a diffusers model with packed layers take LoRA."""
    for name in ("add_adapter", "load_lora_adapter"):
        if hasattr(type(model), name):
            vars(model)[name] = partial(_adapting, model, name)
    if hasattr(type(model), "fuse_lora"):
        vars(model)["fuse_lora"] = partial(_fuse, model)
        vars(model)["unfuse_lora"] = partial(_unfuse, model)


def _adapting(model: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The model's own method, when layers can take an adapter. Raises ModelError before anything is loaded."""
    if any(isinstance(part, Part) for part in model.modules()):
        raise ModelError("fused blocks take no LoRA or other adapter: load the model without fused=True")
    if _peft() < _OLDEST:
        raise ModelError("a LoRA on packed layers needs PEFT 0.21 or newer: pip install 'peft>=0.21'")
    from quant.layers.lora_layers import teach_peft

    teach_peft()
    return getattr(type(model), name)(model, *args, **kwargs)


def _peft() -> tuple[int, ...]:
    """The release of PEFT; () where there is none."""
    try:
        return tuple(int(part) for part in version("peft").split(".")[:2])
    except PackageNotFoundError:
        return ()


def _fuse(model: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's own `fuse_lora`; one warning says what of the adapters rounding lost.

    Raises:
        ModelError: the model is offloaded, or an adapter is not finite.
    """
    _refuse_offloaded(model)
    made = type(model).fuse_lora(model, *args, **kwargs)
    lost = {name: part.lost for name, part in model.named_modules() if _is_merged(part)}
    if lost:
        worst = max(lost, key=lambda name: lost[name])
        warnings.warn(
            f"fuse_lora rounded {len(lost)} packed layers again, which lost {sum(lost.values()) / len(lost):.1%} of "
            f"what the adapters change on average, {lost[worst]:.1%} of {worst}; without it, adapters lose nothing",
            QuantWarning,
            stacklevel=2,
        )
    return made


def _unfuse(model: Any, *args: Any, **kwargs: Any) -> Any:
    """The model's own `unfuse_lora`. Raises ModelError where the model is offloaded."""
    _refuse_offloaded(model)
    return type(model).unfuse_lora(model, *args, **kwargs)


def _refuse_offloaded(model: nn.Module) -> None:
    """What offloads keeps tensors of its own, which would not be those that are put in."""
    for part in model.modules():
        hooks = getattr(getattr(part, "_diffusers_hook", None), "hooks", ())
        if "group_offloading" in hooks or getattr(getattr(part, "_hf_hook", None), "offload", False):
            raise ModelError("the model is offloaded: fuse or unfuse adapters before that")


def _is_merged(part: nn.Module) -> bool:
    return hasattr(part, "lost") and bool(getattr(part, "merged_adapters", None))
