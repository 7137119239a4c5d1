"""Wan in the names of its authors (https://github.com/Wan-Video/Wan2.1, `wan/modules/model.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from quant.pipelines.inputs.naming import Backwards, replaced

_TEXT, _TIME, _IMAGE = (f"condition_embedder.{part}_embedder" for part in ("text", "time", "image"))
_NAMES = (
    (f"{_TIME}.linear_1", "time_embedding.0"),
    (f"{_TIME}.linear_2", "time_embedding.2"),
    (f"{_TEXT}.linear_1", "text_embedding.0"),
    (f"{_TEXT}.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    (f"{_IMAGE}.norm1", "img_emb.proj.0"),
    (f"{_IMAGE}.ff.net.0.proj", "img_emb.proj.1"),
    (f"{_IMAGE}.ff.net.2", "img_emb.proj.3"),
    (f"{_IMAGE}.norm2", "img_emb.proj.4"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".norm_added_k.", ".norm_k_img."),
)
#: Blocks have the two names the other way around: both at once.
_NORMS = {"norm2": "norm3", "norm3": "norm2"}
_NORM = re.compile(r"(?<=\.)norm[23](?=\.)")
_VACE = (("proj_in", "before_proj"), ("proj_out", "after_proj"))


def _name(name: str) -> str:
    head, _, rest = name.partition(".")
    if head == "proj_out":
        return f"head.head.{rest}"
    if name == "scale_shift_table":
        return "head.modulation"
    if head == "vace_blocks":
        name = replaced(name, _VACE)
    if head in ("blocks", "vace_blocks"):
        name = _NORM.sub(lambda found: _NORMS[found[0]], name)
    return replaced(name, _NAMES).replace("scale_shift_table", "modulation")


def names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors in the authors' names."""
    return {_name(name): tensor for name, tensor in tensors.items()}


WAN = Backwards(
    ("WanTransformer3DModel", "WanVACETransformer3DModel", "SkyReelsV2Transformer3DModel"), names, architecture="wan"
)
