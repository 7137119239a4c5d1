"""LTX-Video, LTX-2 with its audio, and the linear attention of Sana-Video and SANA-WM.

Sizes at real size are those of diffusers' scripts/convert_ltx_to_diffusers.py, convert_ltx2_to_diffusers.py and
convert_sana_video_to_diffusers.py, and the class's defaults, which are the released SANA-WM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_13B = {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}
_LTX_2_5 = {
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
    "ff_bias": False,
    "use_keyframes_abs_pos_embedding": True,
    "rope_type": "split",
}
_TINY_LTX_2: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": 32,
    "num_layers": 2,
    "caption_channels": 32,
    "rope_double_precision": False,
}
_TINY_SANA: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 16,
    "cross_attention_dim": 32,
    "caption_channels": 32,
    "mlp_ratio": 3.0,
    "sample_size": 8,
    "rope_max_seq_len": 32,
}


def _ltx(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 2 * 4 * 4, 4),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": timesteps(g, 1),
        "encoder_attention_mask": torch.ones(1, 6),
        "num_frames": 2,
        "height": 4,
        "width": 4,
    }


def _ltx_2(model: nn.Module, g: torch.Generator) -> Inputs:
    return {
        **_ltx(model, g),
        "audio_hidden_states": noise(g, 1, 5, 4),
        "audio_encoder_hidden_states": noise(g, 1, 6, 32),
        "audio_num_frames": 5,
        "fps": 24.0,
        "sigma": torch.tensor([0.5]),
    }


def _refiner(model: Any, g: torch.Generator) -> Inputs:
    # The active block of two latent frames, with no history before it.
    return {
        "hidden_states": noise(g, 1, 2 * 4 * 4, 4),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": torch.full((1, 2 * 4 * 4), 500.0),
        "video_rotary_emb": model.build_rotary_emb_for_absolute_positions(1, [3, 4], 4, 4, torch.device("cpu"), 24.0),
    }


def _sana(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 4, 2, 8, 8),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": timesteps(g, 1),
    }


def _sana_wm(_: nn.Module, g: torch.Generator) -> Inputs:
    # A camera that stands still: its 4 x 4 pose, then focal lengths and centre in latent pixels.
    camera = torch.cat([torch.eye(4).flatten(), torch.tensor([4.0, 4.0, 2.0, 2.0])])
    return {
        "hidden_states": noise(g, 1, 4, 2, 4, 4),
        "timestep": timesteps(g, 1, 1, 2),
        "encoder_hidden_states": noise(g, 1, 1, 6, 32),
        "encoder_attention_mask": torch.ones(1, 6),
        "camera_conditions": camera.expand(1, 2, 20),
        "chunk_plucker": noise(g, 1, 48, 2, 4, 4),
    }


LTX = (
    Denoiser(
        cls="LTXVideoTransformer3DModel",
        real={"LTX-Video 2B": {}, "LTX-Video 13B": _13B},
        tiny={
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "cross_attention_dim": 32,
            "num_layers": 3,
            "caption_channels": 32,
        },
        call=_ltx,
        pipelines=(
            "LTXPipeline",
            "LTXImageToVideoPipeline",
            "LTXConditionPipeline",
            "LTXI2VLongMultiPromptPipeline",
        ),
    ),
    Denoiser(
        cls="LTX2VideoTransformer3DModel",
        real={"LTX-2 19B": {"rope_type": "split"}},
        tiny=_TINY_LTX_2,
        call=_ltx_2,
        pipelines=("LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline", "LTX2InContextPipeline"),
    ),
    Denoiser(
        cls="LTX2VideoTransformer3DModel",
        real={"LTX-2.5 19B": _LTX_2_5},
        tiny={**_TINY_LTX_2, **_LTX_2_5},
        call=_ltx_2,
        pipelines=("LTX2HDRPipeline", "LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline"),
    ),
    Denoiser(
        cls="SanaVideoTransformer3DModel",
        real={"Sana-Video 2B": {"mlp_ratio": 3.0}},
        tiny=_TINY_SANA,
        call=_sana,
        pipelines=("SanaVideoPipeline", "SanaImageToVideoPipeline"),
    ),
    Denoiser(
        cls="SanaWMTransformer3DModel",
        real={"SANA-WM 2.7B": {}},
        tiny={
            "in_channels": 4,
            "num_layers": 4,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "linear_head_dim": 16,
            "caption_channels": 32,
        },
        call=_sana_wm,
        pipelines=("SanaWMPipeline",),
    ),
    Denoiser(
        cls="SanaWMLTX2RefinerTransformer3DModel",
        real={"SANA-WM refiner 19B": {"rope_type": "split"}},
        tiny=_TINY_LTX_2,
        call=_refiner,
        pipelines=("SanaWMPipeline",),
    ),
)
