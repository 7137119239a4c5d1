"""UNets: Stable Video Diffusion, ModelScope, I2VGen-XL and AnimateDiff.

Sizes at real size are the classes' defaults, and for AnimateDiff those of Stable Diffusion 1.5 and XL with their motion
adapters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_TINY: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
}
_TINY_3D: dict[str, Any] = {
    **_TINY,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "attention_head_dim": 16,
}
_TINY_MOTION: dict[str, Any] = {
    **_TINY,
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
    "motion_max_seq_length": 8,
}


def _svd(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "sample": noise(g, 1, 2, 8, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 1, 32),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]),
    }


def _text(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "sample": noise(g, 1, 4, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
    }


def _motion(_: nn.Module, g: torch.Generator) -> Inputs:
    # AnimateDiff's pipelines repeat the prompt for every frame.
    return {
        "sample": noise(g, 1, 4, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 2, 6, 32),
    }


def _motion_xl(model: nn.Module, g: torch.Generator) -> Inputs:
    conditions = {"text_embeds": noise(g, 1, 32), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    return {**_motion(model, g), "added_cond_kwargs": conditions}


def _i2vgen(model: nn.Module, g: torch.Generator) -> Inputs:
    return {
        **_text(model, g),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "fps": torch.tensor([16]),
        "image_latents": noise(g, 1, 4, 2, 8, 8),
        "image_embeddings": noise(g, 1, 32),
    }


UNETS = (
    Denoiser(
        cls="UNetSpatioTemporalConditionModel",
        real={"Stable Video Diffusion XT 1.5B": {}},
        tiny={
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "num_attention_heads": 2,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 96,
        },
        call=_svd,
        pipelines=("StableVideoDiffusionPipeline",),
    ),
    Denoiser(
        cls="UNet3DConditionModel",
        real={"ModelScope T2V 1.4B": {}},
        tiny=_TINY_3D,
        call=_text,
        pipelines=("TextToVideoSDPipeline", "VideoToVideoSDPipeline"),
    ),
    Denoiser(
        cls="I2VGenXLUNet",
        real={"I2VGen-XL 1.4B": {}},
        tiny={**_TINY_3D, "num_attention_heads": 2},
        call=_i2vgen,
        pipelines=("I2VGenXLPipeline",),
    ),
    Denoiser(
        cls="UNetMotionModel",
        real={"AnimateDiff SD 1.5 1.3B": {"cross_attention_dim": 768, "use_motion_mid_block": False}},
        tiny=_TINY_MOTION,
        call=_motion,
        pipelines=(
            "AnimateDiffPipeline",
            "AnimateDiffVideoToVideoPipeline",
            "AnimateDiffControlNetPipeline",
            "AnimateDiffVideoToVideoControlNetPipeline",
            "AnimateDiffSparseControlNetPipeline",
            "AnimateDiffPAGPipeline",
            "PIAPipeline",
        ),
    ),
    Denoiser(
        cls="UNetMotionModel",
        real={
            "AnimateDiff SDXL 2.8B": {
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
                "up_block_types": ("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
                "cross_attention_dim": 2048,
                "transformer_layers_per_block": (1, 2, 10),
                "num_attention_heads": (5, 10, 20),
                "use_linear_projection": True,
                "use_motion_mid_block": False,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            }
        },
        tiny={
            **_TINY_MOTION,
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
            "use_motion_mid_block": False,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 224,
        },
        call=_motion_xl,
        pipelines=("AnimateDiffSDXLPipeline",),
    ),
)
