"""Methods of a model that would make something wrong of quantized layers, replaced on the model by a refusal.

Functions of this module, so that a copied or pickled model keeps them.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from quant.errors import ModelError
from quant.modules.linear import QuantLinear


def refuse_changes(model: nn.Module) -> None:
    """On a diffusers model: adapters, and projections fused by diffusers, which joins weights without their scales."""
    for name in ("add_adapter", "load_lora_adapter"):
        _put(model, name, _no_adapter)
    _put(model, "fuse_qkv_projections", _no_fused_projections)


def refuse_foreign_saving(model: nn.Module) -> None:
    """On every part of a model whose library would write codes and load them as weights, as transformers does.

    A diffusers model itself saves and loads them right; one within another module is not known to be quantized.
    """
    for part in model.modules():
        if not (part is model and hasattr(model, "register_to_config")) and _holds_codes(part):
            _put(part, "save_pretrained", _no_foreign_saving)


def _holds_codes(part: nn.Module) -> bool:
    return hasattr(type(part), "save_pretrained") and any(isinstance(module, QuantLinear) for module in part.modules())


def _put(model: nn.Module, name: str, refusal: Any) -> None:
    if hasattr(type(model), name):
        vars(model)[name] = refusal


def _no_adapter(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "quantized layers take no LoRA or other adapter: load it into the original, pipe.fuse_lora() and "
        "pipe.unload_lora_weights() there, and quantize the result"
    )


def _no_fused_projections(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "diffusers cannot fuse the projections of quantized layers, as it would join codes without their scales: "
        "quant.load(..., fused=True) does, for the families that have fused blocks"
    )


def _no_foreign_saving(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "save_pretrained of this model would write codes that its from_pretrained reads as weights: write it with "
        "quant.save(model, DIR) and read it with quant.load(DIR, into=the original model)"
    )
