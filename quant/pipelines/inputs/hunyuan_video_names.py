"""HunyuanVideo in the names of its authors (https://github.com/Tencent/HunyuanVideo, `hyvideo/modules/models.py`).

They have one layer where diffusers has several that read the same input: q, k and v, and with them the first half of
the feed-forward of single blocks; and in the last modulation the shift before the scale.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.pipelines.inputs.naming import Backwards, replaced

_TIME = "time_text_embed"
_TEXT_NAMES = (
    ("context_embedder.token_refiner.refiner_blocks", "txt_in.individual_token_refiner.blocks"),
    (f"context_embedder.{_TIME}.timestep_embedder.linear_1", "txt_in.t_embedder.mlp.0"),
    (f"context_embedder.{_TIME}.timestep_embedder.linear_2", "txt_in.t_embedder.mlp.2"),
    (f"context_embedder.{_TIME}.text_embedder", "txt_in.c_embedder"),
    ("context_embedder.proj_in", "txt_in.input_embedder"),
    ("norm_out.linear", "adaLN_modulation.1"),
    ("attn.to_out.0", "self_attn_proj"),
    ("ff.net.0.proj", "mlp.fc1"),
    ("ff.net.2", "mlp.fc2"),
)
_NAMES = (
    (f"{_TIME}.timestep_embedder.linear_1", "time_in.mlp.0"),
    (f"{_TIME}.timestep_embedder.linear_2", "time_in.mlp.2"),
    (f"{_TIME}.guidance_embedder.linear_1", "guidance_in.mlp.0"),
    (f"{_TIME}.guidance_embedder.linear_2", "guidance_in.mlp.2"),
    (f"{_TIME}.text_embedder.linear_1", "vector_in.in_layer"),
    (f"{_TIME}.text_embedder.linear_2", "vector_in.out_layer"),
    ("x_embedder", "img_in"),
    ("transformer_blocks", "double_blocks"),
    ("attn.norm_added_q", "txt_attn_q_norm"),
    ("attn.norm_added_k", "txt_attn_k_norm"),
    ("attn.norm_q", "img_attn_q_norm"),
    ("attn.norm_k", "img_attn_k_norm"),
    ("attn.to_out.0", "img_attn_proj"),
    ("attn.to_add_out", "txt_attn_proj"),
    ("norm1_context.linear", "txt_mod.linear"),
    ("norm1.linear", "img_mod.linear"),
    ("ff_context.net.0.proj", "txt_mlp.fc1"),
    ("ff_context.net.2", "txt_mlp.fc2"),
    ("ff.net.0.proj", "img_mlp.fc1"),
    ("ff.net.2", "img_mlp.fc2"),
)
_SINGLE_NAMES = (
    ("single_transformer_blocks", "single_blocks"),
    ("attn.norm_q", "q_norm"),
    ("attn.norm_k", "k_norm"),
    ("norm.linear", "modulation.linear"),
    ("proj_out", "linear2"),
)
_LAST = {"norm_out.linear": "final_layer.adaLN_modulation.1", "proj_out": "final_layer.linear"}
#: Layers of a module of diffusers that are one of the authors', by the module's first name.
_JOINED: dict[str, dict[str, tuple[str, ...]]] = {
    "context_embedder": {"self_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v")},
    "transformer_blocks": {
        "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    },
    "single_transformer_blocks": {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")},
}


#: Names of all else in a module of diffusers, by its first name.
_OF_MODULES = {"context_embedder": _TEXT_NAMES, "single_transformer_blocks": _SINGLE_NAMES}


def _name(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    if layer in _LAST:
        return f"{_LAST[layer]}.{leaf}"
    return replaced(name, _OF_MODULES.get(name.partition(".")[0], _NAMES))


def names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors in the authors' names, joined as theirs are."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        joins = _JOINED.get(name.partition(".")[0], {}).items()
        theirs, parts = next((each for each in joins if _is_part(name, each[1])), ("", ()))
        if not parts:
            found[_name(name)] = _shift_first(tensor) if name.startswith("norm_out.linear.") else tensor
        elif f".{parts[0]}." in name:
            rows = [tensors[name.replace(f".{parts[0]}.", f".{part}.")] for part in parts]
            found[_name(name.replace(f".{parts[0]}.", f".{theirs}."))] = torch.cat(rows, dim=0)
    return found


def _is_part(name: str, parts: tuple[str, ...]) -> bool:
    return any(f".{part}." in name for part in parts)


def _shift_first(tensor: torch.Tensor) -> torch.Tensor:
    scale, shift = tensor.chunk(2, dim=0)
    return torch.cat([shift, scale], dim=0)


HUNYUAN_VIDEO = Backwards(("HunyuanVideoTransformer3DModel",), names, architecture="hyvid")
