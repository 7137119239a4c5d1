"""LTX-Video in the names of its authors (https://github.com/Lightricks/LTX-Video, `transformer3d.py`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.pipelines.inputs.naming import Backwards, replaced

_NAMES = (
    ("proj_in.", "patchify_proj."),
    ("time_embed.", "adaln_single."),
    ("norm_q.", "q_norm."),
    ("norm_k.", "k_norm."),
)


def names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors in the authors' names."""
    return {replaced(name, _NAMES): tensor for name, tensor in tensors.items()}


LTX = Backwards(("LTXVideoTransformer3DModel",), names, architecture="ltxv")
