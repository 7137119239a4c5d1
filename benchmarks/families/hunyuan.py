"""HunyuanVideo, the models built on it, and Motif-Video, whose blocks are of the same two kinds.

Sizes at real size are the classes' defaults and those of diffusers' scripts/convert_hunyuan_video_to_diffusers.py and
convert_hunyuan_video1_5_to_diffusers.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_TINY: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 32,
    "rope_axes_dim": (4, 6, 6),
}


def _text(_: nn.Module, g: torch.Generator, channels: int = 4) -> Inputs:
    return {
        "hidden_states": noise(g, 1, channels, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "encoder_attention_mask": torch.ones(1, 6),
        "pooled_projections": noise(g, 1, 32),
    }


def _guided(model: nn.Module, g: torch.Generator) -> Inputs:
    return {**_text(model, g), "guidance": torch.tensor([6000.0])}


def _framepack(model: nn.Module, g: torch.Generator) -> Inputs:
    return {
        **_guided(model, g),
        "image_embeds": noise(g, 1, 6, 32),
        "indices_latents": torch.ones(2),
        "latents_clean": noise(g, 1, 4, 2, 8, 8),
        "indices_latents_clean": torch.ones(2),
        "latents_history_2x": noise(g, 1, 4, 2, 8, 8),
        "indices_latents_history_2x": torch.ones(2),
        "latents_history_4x": noise(g, 1, 4, 8, 8, 8),
        "indices_latents_history_4x": torch.ones(8),
    }


def _hunyuan_15(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 4, 2, 4, 4),
        "timestep": timesteps(g, 1).float(),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "encoder_attention_mask": torch.ones(1, 6),
        "encoder_hidden_states_2": noise(g, 1, 4, 32),
        "encoder_attention_mask_2": torch.ones(1, 4),
        "image_embeds": noise(g, 1, 3, 32),
    }


def _motif(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 9, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
    }


HUNYUAN = (
    Denoiser(
        cls="HunyuanVideoTransformer3DModel",
        real={
            "HunyuanVideo 13B": {},
            "HunyuanVideo I2V 13B": {
                "in_channels": 33,
                "guidance_embeds": False,
                "image_condition_type": "latent_concat",
            },
        },
        tiny=_TINY,
        call=_guided,
        pipelines=(
            "HunyuanVideoPipeline",
            "HunyuanVideoImageToVideoPipeline",
            "HunyuanSkyreelsImageToVideoPipeline",
        ),
    ),
    Denoiser(
        cls="HunyuanVideoFramepackTransformer3DModel",
        real={"FramePack 13B": {"has_image_proj": True, "has_clean_x_embedder": True}},
        tiny={**_TINY, "has_image_proj": True, "image_proj_dim": 32, "has_clean_x_embedder": True},
        call=_framepack,
        pipelines=("HunyuanVideoFramepackPipeline",),
    ),
    Denoiser(
        cls="HunyuanVideo15Transformer3DModel",
        real={"HunyuanVideo 1.5 8.3B": {}},
        tiny={
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "text_embed_dim": 32,
            "text_embed_2_dim": 32,
            "image_embed_dim": 32,
            "rope_axes_dim": (4, 6, 6),
            "target_size": 16,
        },
        call=_hunyuan_15,
        pipelines=("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    ),
    Denoiser(
        cls="MotifVideoTransformer3DModel",
        real={"Motif-Video 13B (the class's defaults)": {}},
        tiny={
            "in_channels": 9,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            "text_embed_dim": 32,
            "rope_axes_dim": (4, 6, 6),
        },
        call=_motif,
        pipelines=("MotifVideoPipeline", "MotifVideoImage2VideoPipeline"),
    ),
)
