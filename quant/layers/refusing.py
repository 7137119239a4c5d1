"""Methods of a model that would make something wrong of quantized layers, replaced on the model by a refusal.

Functions of this module, so that a copied or pickled model keeps them.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from quant.errors import ModelError
from quant.layers.adapters import take_adapters
from quant.layers.layer import QuantLayer

#: Of transformers' models.
_ADAPTING = ("add_adapter", "load_adapter")
_FUSING = "fuse_qkv_projections"


def refuse_changes(model: nn.Module) -> None:
    """On every part with quantized layers: fused projections, which would be codes without scales, and adapters.

    Those of diffusers' models are taken, where they can be.
    """
    for part in model.modules():
        if _has_any(part, (*_ADAPTING, "load_lora_adapter", _FUSING)) and _holds_codes(part):
            if hasattr(type(part), "load_lora_adapter"):
                take_adapters(part)
            else:
                for name in _ADAPTING:
                    _put(part, name, _no_adapter)
            _put(part, _FUSING, _no_fused_projections)


def refuse_foreign_saving(model: nn.Module) -> None:
    """On every part of a model whose library would write codes and load them as weights, as transformers does.

    A model with a quantizer of ours that `saves` it is written and loaded right; one within another module is not known
    to be quantized.
    """
    saves = getattr(getattr(model, "hf_quantizer", None), "saves", False)
    for part in model.modules():
        own = part is model and saves
        if not own and _has_any(part, ("save_pretrained",)) and _holds_codes(part):
            _put(part, "save_pretrained", _no_foreign_saving)


def _has_any(part: nn.Module, names: tuple[str, ...]) -> bool:
    return any(hasattr(type(part), name) for name in names)


def _holds_codes(part: nn.Module) -> bool:
    return any(isinstance(module, QuantLayer) for module in part.modules())


def _put(model: nn.Module, name: str, refusal: Any) -> None:
    if hasattr(type(model), name):
        vars(model)[name] = refusal


def _no_adapter(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "quantized layers of a transformers model take no LoRA or other adapter: merge it into the original and "
        "quantize the result"
    )


def _no_fused_projections(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "diffusers cannot fuse the projections of quantized layers, as it would join codes without their scales: "
        "quant.load(..., fused=True) does, for the families that have fused blocks"
    )


def _no_foreign_saving(*args: Any, **kwargs: Any) -> NoReturn:
    raise ModelError(
        "save_pretrained of this model would write codes that from_pretrained takes for weights: write it with "
        "quant.save(model, DIR), the whole model where this is a part of one"
    )
