"""Wan and the models with its blocks: SkyReels V2, ChronoEdit, AnyFlow, Helios, Wan-Animate.

Sizes at real size are those of diffusers' scripts/convert_wan_to_diffusers.py, convert_skyreelsv2_to_diffusers.py and
convert_anyflow_to_diffusers.py, and the classes' defaults, which are the released 14B models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_1_3B = {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
_5B = {"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "num_layers": 30, "ffn_dim": 14336}
_SKYREELS = {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824}
_IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
_TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 3,
    "rope_max_seq_len": 32,
}
_TINY_IMAGE = {"in_channels": 8, "image_dim": 32, "added_kv_proj_dim": 32}


def _text(_: nn.Module, g: torch.Generator, channels: int = 4) -> Inputs:
    return {
        "hidden_states": noise(g, 1, channels, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
    }


def _image(model: nn.Module, g: torch.Generator) -> Inputs:
    return {**_text(model, g, channels=8), **_prompt_and_image(g)}


def _prompt_and_image(g: torch.Generator) -> Inputs:
    # Attention takes the last 512 tokens for the prompt's and what is before them for the image's.
    return {"encoder_hidden_states": noise(g, 1, 512, 32), "encoder_hidden_states_image": noise(g, 1, 5, 32)}


def _vace(model: nn.Module, g: torch.Generator) -> Inputs:
    return {**_text(model, g), "control_hidden_states": noise(g, 1, 12, 2, 8, 8)}


def _animate(model: nn.Module, g: torch.Generator) -> Inputs:
    # One frame of latents more than of poses, for the reference image; 77 frames of the face are 20 of latents.
    return {
        "hidden_states": noise(g, 1, 12, 21, 4, 4),
        "timestep": timesteps(g, 1),
        **_prompt_and_image(g),
        "pose_hidden_states": noise(g, 1, 4, 20, 4, 4),
        "face_pixel_values": noise(g, 1, 3, 77, 16, 16),
    }


def _animate_2(model: nn.Module, g: torch.Generator) -> Inputs:
    """A denoising step; the pass over the driving video that fills its cache is run here."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    def shared(frames: int) -> Inputs:
        return {
            "hidden_states": [noise(g, 16, frames, 4, 4)],
            "encoder_hidden_states": [noise(g, 8, 32)],
            "condition_latents": [noise(g, 20, frames, 4, 4)],
            "encoder_hidden_states_image": noise(g, 1, 4, 1280),
            "kv_cache": cache,
            "seq_len": frames * 4,
        }

    cache, grid = WanAnimate2KVCache(2), torch.tensor([[2, 2, 2]])
    first = {**shared(2), "timestep": torch.tensor([1.0]), "kv_cache_mode": "extract", "offset_grid_sizes": grid}
    with torch.no_grad():
        model(**first)
    return {
        **shared(3),
        "timestep": torch.tensor([500.0]),
        "kv_cache_mode": "cached",
        "reference_grid_sizes": grid,
        "origin_len": 5,
        "origin_area": [32, 32],
    }


def _anyflow(_: nn.Module, g: torch.Generator, frames: int = 2) -> Inputs:
    return {
        "hidden_states": noise(g, 1, frames, 4, 8, 8),
        "timestep": torch.full((1, frames), 500.0),
        "r_timestep": torch.full((1, frames), 250.0),
        "encoder_hidden_states": noise(g, 1, 6, 32),
    }


def _anyflow_far(model: nn.Module, g: torch.Generator) -> Inputs:
    return {**_anyflow(model, g, frames=4), "chunk_partition": [2, 2]}


def _helios(model: nn.Module, g: torch.Generator) -> Inputs:
    history = {"short": 1, "mid": 1, "long": 4}
    return {
        **_text(model, g),
        "indices_hidden_states": torch.ones(1, 2),
        **{f"indices_latents_history_{name}": torch.ones(1, frames) for name, frames in history.items()},
        **{f"latents_history_{name}": noise(g, 1, 4, frames, 8, 8) for name, frames in history.items()},
    }


WAN = (
    Denoiser(
        cls="WanTransformer3DModel",
        real={"Wan 2.1 T2V 1.3B": _1_3B, "Wan 2.1 T2V 14B": {}, "Wan 2.2 TI2V 5B": _5B},
        tiny=_TINY,
        call=_text,
        pipelines=("WanPipeline", "WanVideoToVideoPipeline", "WanImageToVideoPipeline", "LucyEditPipeline"),
    ),
    Denoiser(
        cls="WanTransformer3DModel",
        real={"Wan 2.1 I2V 14B": _IMAGE},
        tiny={**_TINY, **_TINY_IMAGE},
        call=_image,
        pipelines=("WanImageToVideoPipeline",),
    ),
    Denoiser(
        cls="WanVACETransformer3DModel",
        real={"Wan 2.1 VACE 14B": {}},
        tiny={**_TINY, "vace_layers": [0, 2], "vace_in_channels": 12},
        call=_vace,
        pipelines=("WanVACEPipeline",),
    ),
    Denoiser(
        cls="WanAnimateTransformer3DModel",
        real={"Wan 2.2 Animate 14B": {"added_kv_proj_dim": 5120}},
        tiny={
            **_TINY,
            "num_layers": 4,
            "in_channels": 12,
            "latent_channels": 4,
            "image_dim": 32,
            "added_kv_proj_dim": 32,
            "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
            "motion_encoder_size": 16,
            "motion_style_dim": 16,
            "motion_dim": 4,
            "motion_encoder_dim": 16,
            "face_encoder_hidden_dim": 16,
            "face_encoder_num_heads": 2,
            "inject_face_latents_blocks": 2,
        },
        call=_animate,
        pipelines=("WanAnimatePipeline",),
    ),
    Denoiser(
        cls="WanAnimate2Transformer3DModel",
        real={"Wan-Animate-2 14B": {}},
        tiny={
            "text_len": 16,
            "in_dim": 36,
            "dim": 64,
            "ffn_dim": 128,
            "freq_dim": 32,
            "text_dim": 32,
            "out_dim": 16,
            "num_heads": 2,
            "num_layers": 2,
        },
        call=_animate_2,
        pipelines=("WanAnimate2ModularPipeline", "WanAnimate2DistilledModularPipeline"),
    ),
    Denoiser(
        cls="SkyReelsV2Transformer3DModel",
        real={"SkyReels V2 14B": _SKYREELS, "SkyReels V2 I2V 14B": {**_SKYREELS, **_IMAGE}},
        tiny=_TINY,
        call=_text,
        pipelines=(
            "SkyReelsV2Pipeline",
            "SkyReelsV2ImageToVideoPipeline",
            "SkyReelsV2DiffusionForcingPipeline",
            "SkyReelsV2DiffusionForcingImageToVideoPipeline",
            "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        ),
    ),
    Denoiser(
        cls="ChronoEditTransformer3DModel",
        real={"ChronoEdit 14B": _IMAGE},
        tiny={**_TINY, **_TINY_IMAGE},
        call=_image,
        pipelines=("ChronoEditPipeline",),
    ),
    Denoiser(
        cls="AnyFlowTransformer3DModel",
        real={"AnyFlow 14B": {}},
        tiny=_TINY,
        call=_anyflow,
        pipelines=("AnyFlowPipeline",),
    ),
    Denoiser(
        cls="AnyFlowFARTransformer3DModel",
        real={"AnyFlow FAR 14B": {}},
        tiny=_TINY,
        call=_anyflow_far,
        pipelines=("AnyFlowFARPipeline",),
    ),
    Denoiser(
        cls="HeliosTransformer3DModel",
        real={"Helios 14B": {}},
        tiny={**{key: value for key, value in _TINY.items() if key != "rope_max_seq_len"}, "rope_dim": (4, 6, 6)},
        call=_helios,
        pipelines=("HeliosPipeline", "HeliosPyramidPipeline"),
    ),
)
