"""diffusers' own blocks at a model's sizes, with random weights and inputs: what a measurement runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from quant.eval.bench.sizes import Model

DTYPE = torch.bfloat16


class Built(NamedTuple):
    """A model with one block, and what the block is called with.

    Attributes:
        network: diffusers' model.
        prefix: what the names of the block's layers begin with, such as "blocks.0.".
        arguments: of the block.
    """

    network: nn.Module
    prefix: str
    arguments: Mapping[str, Any]

    def block(self, network: nn.Module | None = None) -> nn.Module:
        """The block, of the network or of a quantized copy of it."""
        return (network or self.network).get_submodule(self.prefix.removesuffix("."))


def build(model: Model, device: torch.device, *, batch: int = 1, seed: int = 0) -> Built:
    """The model with a single block on `device`: weights in bf16, except those that diffusers keeps in float32.

    Values are random: the time does not depend on them. Rotary embeddings are random too, so any number of tokens
    will do, and no attention is masked.
    """
    torch.manual_seed(seed)
    make, inputs = _MODELS[model.transformer]
    with torch.device(device), torch.no_grad():
        network = make(model, True)
        arguments = inputs(model, batch)
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    for name, parameter in network.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(DTYPE)
    return Built(network.eval().requires_grad_(False), f"{model.blocks}.0.", arguments)


def skeleton(model: Model) -> nn.Module:
    """The whole model without its values: what layers it has, and of which classes and shapes."""
    return _skeleton(model._replace(video_tokens=0, text_tokens=0, about=""))  # one for all numbers of tokens


@lru_cache(maxsize=8)
def _skeleton(model: Model) -> nn.Module:
    make, _ = _MODELS[model.transformer]
    with torch.device("meta"):
        return make(model, False)


def first_tensor(output: object) -> torch.Tensor:
    """The video's stream of what a block returned."""
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, torch.Tensor)
    return found


def _wan(model: Model, alone: bool) -> nn.Module:
    from diffusers import WanTransformer3DModel

    made: nn.Module = WanTransformer3DModel(
        num_attention_heads=model.heads,
        attention_head_dim=model.head_dim,
        ffn_dim=model.ff,
        num_layers=1 if alone else model.layers,
        cross_attn_norm=model.cross_norm,
    )
    return made


def _wan_inputs(model: Model, batch: int) -> dict[str, Any]:
    rotary = (1, model.video_tokens, 1, model.head_dim)
    return {
        **_streams(model, batch),
        "temb": torch.randn(batch, 6, model.d, dtype=DTYPE),
        "rotary_emb": (torch.randn(rotary), torch.randn(rotary)),
    }


def _ltx(model: Model, alone: bool) -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    made: nn.Module = LTXVideoTransformer3DModel(
        num_attention_heads=model.heads,
        attention_head_dim=model.head_dim,
        cross_attention_dim=model.d,
        num_layers=1 if alone else model.layers,
    )
    return made


def _ltx_inputs(model: Model, batch: int) -> dict[str, Any]:
    rotary = (batch, model.video_tokens, model.d)
    return {
        **_streams(model, batch),
        "temb": torch.randn(batch, 1, 6 * model.d, dtype=DTYPE),
        "image_rotary_emb": (torch.randn(rotary), torch.randn(rotary)),
    }


def _hunyuan(model: Model, alone: bool) -> nn.Module:
    from diffusers import HunyuanVideoTransformer3DModel

    made: nn.Module = HunyuanVideoTransformer3DModel(
        num_attention_heads=model.heads,
        attention_head_dim=model.head_dim,
        num_layers=1 if alone else model.layers,
        mlp_ratio=model.ff / model.d,
        **({"num_single_layers": 0, "num_refiner_layers": 1} if alone else {}),
    )
    return made


def _hunyuan_inputs(model: Model, batch: int) -> dict[str, Any]:
    rotary = (model.video_tokens, model.head_dim)
    return {
        **_streams(model, batch),
        "temb": torch.randn(batch, model.d, dtype=DTYPE),
        "freqs_cis": (torch.randn(rotary), torch.randn(rotary)),
    }


def _streams(model: Model, batch: int) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(batch, model.video_tokens, model.d, dtype=DTYPE),
        "encoder_hidden_states": torch.randn(batch, model.text_tokens, model.d, dtype=DTYPE),
    }


#: Makes a model; with a single block and no more than that needs where it is alone.
_Make = Callable[[Model, bool], nn.Module]
_Inputs = Callable[[Model, int], dict[str, Any]]
_MODELS: dict[str, tuple[_Make, _Inputs]] = {
    "WanTransformer3DModel": (_wan, _wan_inputs),
    "LTXVideoTransformer3DModel": (_ltx, _ltx_inputs),
    "HunyuanVideoTransformer3DModel": (_hunyuan, _hunyuan_inputs),
}
