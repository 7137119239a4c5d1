"""Real diffusers models, a few thousand parameters each, made from their classes' own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

_ATTENTION = {"num_attention_heads": 2, "attention_head_dim": 12}
_WAN = {
    **_ATTENTION,
    "patch_size": (1, 2, 2),
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 3,
    "rope_max_seq_len": 32,
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "WanTransformer3DModel": _WAN,
    "WanVACETransformer3DModel": {**_WAN, "vace_layers": [0, 2], "vace_in_channels": 8},
    "LTXVideoTransformer3DModel": {
        **_ATTENTION,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "cross_attention_dim": 24,
        "caption_channels": 16,
    },
    "CogVideoXTransformer3DModel": {
        **_ATTENTION,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
        "num_layers": 2,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 5,
        "max_text_seq_length": 8,
    },
    "HunyuanVideoTransformer3DModel": {
        **_ATTENTION,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "num_single_layers": 4,
        "num_refiner_layers": 1,
        "text_embed_dim": 16,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 4, 4),
    },
    "UNet3DConditionModel": {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
    },
    "UNetSpatioTemporalConditionModel": {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "num_attention_heads": 2,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
    },
}

ModelMaker = Callable[..., nn.Module]


@pytest.fixture(scope="session")
def make_model() -> ModelMaker:
    """Makes a tiny model of a diffusers class; `device="meta"` allocates nothing."""

    def make(class_name: str, *, device: str = "meta", **changes: Any) -> nn.Module:
        import diffusers  # seconds, which tests without a model do without

        torch.manual_seed(0)
        with torch.device(device):
            model = getattr(diffusers, class_name)(**{**_CONFIGS[class_name], **changes})
        assert isinstance(model, nn.Module)
        return model.eval()

    return make
