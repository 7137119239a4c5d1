"""CogVideoX and ConsisID, EasyAnimate, Mochi, Allegro and Latte.

Sizes at real size are those of diffusers' scripts/convert_cogvideox_to_diffusers.py and convert_mochi_to_diffusers.py,
the classes' defaults (Mochi, Allegro), and those known of ConsisID-preview, EasyAnimateV5.1-12b and Latte-1, whose
config.json could not be looked at: their numbers of parameters agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_5B = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
_IMAGE = {"in_channels": 32, "use_learned_positional_embeddings": True}
_TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 32,
    "text_embed_dim": 32,
    "num_layers": 3,
    "sample_width": 8,
    "sample_height": 8,
    "sample_frames": 5,
    "max_text_seq_length": 6,
}
_LATTE = {"attention_bias": True, "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000}
_LATTE |= {"norm_type": "ada_norm_single", "norm_elementwise_affine": False, "norm_eps": 1e-6, "patch_size": 2}


def _cogvideox(_: nn.Module, g: torch.Generator, channels: int = 4) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 2, channels, 8, 8),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": timesteps(g, 1),
    }


def _consisid(model: nn.Module, g: torch.Generator) -> Inputs:
    faces = {"id_vit_hidden": [noise(g, 1, 4, 32)], "id_cond": noise(g, 1, 32)}
    return {**_cogvideox(model, g), **faces}


def _text(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 4, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
    }


def _mochi(model: nn.Module, g: torch.Generator) -> Inputs:
    return {**_text(model, g), "encoder_attention_mask": torch.ones(1, 6, dtype=torch.bool)}


COGVIDEOX = (
    Denoiser(
        cls="CogVideoXTransformer3DModel",
        real={"CogVideoX 2B": {}, "CogVideoX 5B": _5B, "CogVideoX 5B I2V": {**_5B, **_IMAGE}},
        tiny=_TINY,
        call=_cogvideox,
        pipelines=(
            "CogVideoXPipeline",
            "CogVideoXImageToVideoPipeline",
            "CogVideoXVideoToVideoPipeline",
            "CogVideoXFunControlPipeline",
        ),
    ),
    Denoiser(
        cls="ConsisIDTransformer3DModel",
        real={"ConsisID 6B": {**_5B, **_IMAGE, "is_train_face": True}},
        tiny={
            **_TINY,
            # The face's features are two thirds of the width.
            "num_attention_heads": 3,
            "attention_head_dim": 32,
            "num_layers": 2,
            "is_train_face": True,
            "cross_attn_interval": 1,
            "cross_attn_dim_head": 16,
            "cross_attn_num_heads": 2,
            "LFE_id_dim": 32,
            "LFE_vit_dim": 32,
            "LFE_depth": 5,
            "LFE_dim_head": 16,
            "LFE_num_heads": 2,
            "LFE_num_id_token": 1,
            "LFE_num_querie": 4,
            "LFE_output_dim": 64,
            "LFE_ff_mult": 1,
            "LFE_num_scale": 1,
        },
        call=_consisid,
        pipelines=("ConsisIDPipeline",),
    ),
    Denoiser(
        cls="EasyAnimateTransformer3DModel",
        real={
            "EasyAnimate 5.1 12B": {
                "in_channels": 16,
                "out_channels": 16,
                "patch_size": 2,
                "add_norm_text_encoder": True,
            }
        },
        tiny={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "patch_size": 2,
            "num_layers": 3,
            "mmdit_layers": 2,
            "time_embed_dim": 32,
            "text_embed_dim": 32,
            "add_norm_text_encoder": True,
        },
        call=_text,
        pipelines=("EasyAnimatePipeline", "EasyAnimateControlPipeline", "EasyAnimateInpaintPipeline"),
    ),
    Denoiser(
        cls="MochiTransformer3DModel",
        real={"Mochi 10B": {}},
        tiny={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 3,
            "pooled_projection_dim": 32,
            "in_channels": 4,
            "text_embed_dim": 32,
            "time_embed_dim": 32,
            "max_sequence_length": 6,
        },
        call=_mochi,
        pipelines=("MochiPipeline",),
    ),
    Denoiser(
        cls="AllegroTransformer3DModel",
        real={"Allegro 2.8B": {}},
        tiny={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 3,
            "cross_attention_dim": 32,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 2,
            "caption_channels": 32,
        },
        call=_text,
        pipelines=("AllegroPipeline",),
    ),
    Denoiser(
        cls="LatteTransformer3DModel",
        real={
            "Latte 1.1B": {
                **_LATTE,
                "num_layers": 28,
                "attention_head_dim": 72,
                "in_channels": 4,
                "out_channels": 8,
                "cross_attention_dim": 1152,
                "caption_channels": 4096,
            }
        },
        tiny={
            **_LATTE,
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 8,
            "cross_attention_dim": 32,
            "caption_channels": 32,
            "sample_size": 8,
            "video_length": 2,
        },
        call=_text,
        pipelines=("LattePipeline",),
    ),
)
