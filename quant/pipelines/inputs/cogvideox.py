"""CogVideoX in the names of its authors' training library (SAT), which diffusers converts by a script only.

The names are those of diffusers' `scripts/convert_cogvideox_to_diffusers.py`: its original is a pickle, others ship the
same tensors as safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

T = TypeVar("T", bound=torch.Tensor)
_NAMES = (
    ("transformer.final_layernorm", "norm_final"),
    ("transformer.layers", "transformer_blocks"),
    ("attention.dense", "attn1.to_out.0"),
    ("mlp.dense_h_to_4h", "ff.net.0.proj"),
    ("mlp.dense_4h_to_h", "ff.net.2"),
    ("input_layernorm", "norm1.norm"),
    ("post_attention_layernorm", "norm2.norm"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("ofs_embed.0", "ofs_embedding.linear_1"),
    ("ofs_embed.2", "ofs_embedding.linear_2"),
    ("mixins.patch_embed", "patch_embed"),
    ("mixins.final_layer.norm_final", "norm_out.norm"),
    ("mixins.final_layer.linear", "proj_out"),
    ("mixins.final_layer.adaLN_modulation.1", "norm_out.linear"),
    ("mixins.pos_embed.pos_embedding", "patch_embed.pos_embedding"),
)
#: Tables that the class makes itself, or never reads.
_LEFT = ("embed_tokens", "freqs_sin", "freqs_cos", "position_embedding")
_QKV = re.compile(r"transformer\.layers\.(\d+)\.attention\.query_key_value\.(.*)")
_NORM = re.compile(r"mixins\.adaln_layer\.(query|key)_layernorm_list\.(\d+)\.(.*)")
_MODULATION = re.compile(r"mixins\.adaln_layer\.adaLN_modulations\.(\d+)\.1\.(.*)")


def names(checkpoint: Mapping[str, T], config: Mapping[str, Any]) -> dict[str, T]:
    """Tensors by the names of diffusers' `CogVideoXTransformer3DModel`.

    Args:
        checkpoint: by their names in SAT.
        config: not needed; diffusers' own maps take it.
    """
    found: dict[str, Any] = {}
    for name, tensor in checkpoint.items():
        if (match := _QKV.fullmatch(name)) is not None:
            for part, rows in zip("qkv", tensor.chunk(3, dim=0), strict=True):
                found[f"transformer_blocks.{match[1]}.attn1.to_{part}.{match[2]}"] = rows
        elif (match := _NORM.fullmatch(name)) is not None:
            found[f"transformer_blocks.{match[2]}.attn1.norm_{match[1][0]}.{match[3]}"] = tensor
        elif (match := _MODULATION.fullmatch(name)) is not None:
            # Shift, scale and gate of attention, then of the feed-forward; after those of the video, the text's.
            twelve = tensor.chunk(12, dim=0)
            for norm, parts in (("norm1", twelve[0:3] + twelve[6:9]), ("norm2", twelve[3:6] + twelve[9:12])):
                found[f"transformer_blocks.{match[1]}.{norm}.linear.{match[2]}"] = torch.cat(parts, dim=0)
        elif not any(part in name for part in _LEFT):
            key = name
            for theirs, ours in _NAMES:
                key = key.replace(theirs, ours)
            found[key] = tensor
    return found
