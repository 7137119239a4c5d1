"""Cosmos 1 to 3, Kandinsky 5 and 6, and MiniMax-H3.

Sizes at real size are those of diffusers' scripts/convert_cosmos_to_diffusers.py, convert_minimax_h3_to_diffusers.py,
and the classes' defaults (Cosmos 3, Kandinsky 6 with the switches that its releases set).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.families.denoiser import Denoiser, Inputs, noise, timesteps

_COSMOS_2: dict[str, Any] = {"in_channels": 17, "num_attention_heads": 16, "extra_pos_embed_type": None}
_TINY_COSMOS: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 3,
    "mlp_ratio": 2.0,
    "text_embed_dim": 32,
    "adaln_lora_dim": 16,
    "max_size": (4, 32, 32),
    # True needs torchvision, and is one more channel of the first layer.
    "concat_padding_mask": False,
}
_RELEASED_6 = {"text_token_padding": True, "ca_rope": True, "cross_gates": True, "fix_modulation": True}
_TINY_KANDINSKY: dict[str, Any] = {
    "in_visual_dim": 4,
    "out_visual_dim": 4,
    "in_text_dim": 32,
    "in_text_dim2": 32,
    "time_dim": 32,
    "model_dim": 32,
    "ff_dim": 64,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (4, 6, 6),
    "visual_cond": True,
}


def _cosmos(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 4, 2, 8, 8),
        "timestep": timesteps(g, 1),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "fps": 30,
    }


def _cosmos_2(model: nn.Module, g: torch.Generator) -> Inputs:
    # The mask of the frames that are given is one more channel of the input.
    return {**_cosmos(model, g), "condition_mask": torch.ones(1, 1, 2, 8, 8)}


def _cosmos_3(_: nn.Module, g: torch.Generator) -> Inputs:
    # Four text tokens, then one frame of 2 x 2 latent patches.
    text, vision = torch.arange(4), torch.arange(4, 8)
    return {
        "input_ids": torch.tensor([1, 2, 3, 4]),
        "text_indexes": text,
        "position_ids": torch.arange(8).expand(3, 8).clone(),
        "und_len": 4,
        "sequence_length": 8,
        "vision_tokens": [noise(g, 1, 4, 1, 2, 2)],
        "vision_token_shapes": [(1, 2, 2)],
        "vision_sequence_indexes": vision,
        "vision_mse_loss_indexes": vision,
        "vision_timesteps": torch.full((4,), 500.0),
        "vision_noisy_frame_indexes": [torch.tensor([0])],
    }


def _kandinsky_5(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 2, 4, 4, 9),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": timesteps(g, 1).float(),
        "pooled_projections": noise(g, 1, 32),
        "visual_rope_pos": [torch.arange(2), torch.arange(2), torch.arange(2)],
        "text_rope_pos": torch.arange(6),
    }


def _kandinsky_6(_: nn.Module, g: torch.Generator) -> Inputs:
    return {
        "hidden_states": noise(g, 1, 2, 4, 4, 9),
        "encoder_hidden_states": noise(g, 1, 6, 32),
        "timestep": timesteps(g, 1).float(),
        "pooled_projections": noise(g, 1, 32),
        "audio_hidden_states": noise(g, 1, 5, 4),
    }


def _kandinsky_6_sr(_: nn.Module, g: torch.Generator) -> Inputs:
    # Its sparse attention looks at tiles of 8 x 8 tokens.
    return {"hidden_states": noise(g, 1, 2, 16, 16, 9), "timestep": timesteps(g, 1).float()}


def _minimax(_: nn.Module, g: torch.Generator) -> Inputs:
    text, audio, video = 4, 3, 8
    rows = torch.arange(text + audio + video)
    modality = torch.tensor([1] * text + [2] * audio + [0] * video)
    positions = torch.stack([rows.float(), rows.float() % 4, rows.float() % 2], dim=1)
    return {
        "hidden_states": noise(g, 1, video, 16),
        "audio_hidden_states": noise(g, 1, audio, 4),
        "encoder_hidden_states": noise(g, 1, text, 32),
        "timestep": torch.tensor([0.7, 0.3]),
        "timestep_indices": (modality == 2).long(),
        "token_tags": modality,
        "position_ids": positions,
        "text_indices": rows[:text],
        "audio_indices": rows[text : text + audio],
        "video_indices": rows[text + audio :],
    }


COSMOS = (
    Denoiser(
        cls="CosmosTransformer3DModel",
        real={
            "Cosmos 1 7B": {},
            "Cosmos 1 14B Video2World": {"in_channels": 17, "num_attention_heads": 40, "num_layers": 36},
            "Cosmos 2 2B": _COSMOS_2,
        },
        tiny=_TINY_COSMOS,
        call=_cosmos,
        pipelines=(
            "CosmosTextToWorldPipeline",
            "CosmosVideoToWorldPipeline",
            "Cosmos2VideoToWorldPipeline",
            "Cosmos2TextToImagePipeline",
        ),
    ),
    Denoiser(
        cls="CosmosTransformer3DModel",
        real={"Cosmos 2.5 2B": {**_COSMOS_2, "use_crossattn_projection": True, "crossattn_proj_in_channels": 100352}},
        tiny={
            **_TINY_COSMOS,
            "in_channels": 5,
            "extra_pos_embed_type": None,
            "use_crossattn_projection": True,
            "crossattn_proj_in_channels": 32,
            "encoder_hidden_states_channels": 32,
        },
        call=_cosmos_2,
        pipelines=("Cosmos2_5_PredictBasePipeline", "Cosmos2_5_TransferPipeline"),
    ),
    Denoiser(
        cls="Cosmos3OmniTransformer",
        real={"Cosmos 3 15B": {}},
        tiny={
            "head_dim": 16,
            "hidden_size": 32,
            "intermediate_size": 64,
            "latent_channel": 4,
            "latent_patch_size": 1,
            "patch_latent_dim": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "num_hidden_layers": 2,
            "rope_axes_dim": (4, 2, 2),
            "vocab_size": 32,
        },
        call=_cosmos_3,
        pipelines=("Cosmos3OmniPipeline",),
    ),
    Denoiser(
        cls="Kandinsky5Transformer3DModel",
        real={
            "Kandinsky 5 Lite 2B": {
                "in_visual_dim": 16,
                "out_visual_dim": 16,
                "model_dim": 1792,
                "ff_dim": 7168,
                "visual_cond": True,
            }
        },
        tiny=_TINY_KANDINSKY,
        call=_kandinsky_5,
        pipelines=(
            "Kandinsky5T2VPipeline",
            "Kandinsky5I2VPipeline",
            "Kandinsky5T2IPipeline",
            "Kandinsky5I2IPipeline",
        ),
    ),
    Denoiser(
        cls="Kandinsky6Transformer3DModel",
        real={"Kandinsky 6 48B": _RELEASED_6},
        tiny={**_TINY_KANDINSKY, **_RELEASED_6, "in_audio_dim": 4, "out_audio_dim": 4},
        call=_kandinsky_6,
        pipelines=("Kandinsky6TI2VAPipeline",),
    ),
    Denoiser(
        cls="Kandinsky6SRTransformer3DModel",
        real={"Kandinsky 6 SR 1.4B": {}},
        tiny={
            "in_visual_dim": 4,
            "out_visual_dim": 4,
            "time_dim": 32,
            "model_dim": 32,
            "ff_dim": 64,
            "num_visual_blocks": 2,
            "axes_dims": (4, 6, 6),
        },
        call=_kandinsky_6_sr,
        pipelines=("Kandinsky6SRPipeline",),
    ),
    Denoiser(
        cls="MiniMaxH3Transformer3DModel",
        real={"MiniMax-H3 33B": {}},
        tiny={
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "hidden_size": 32,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "ffn_dim": 64,
            "in_channels": 4,
            "audio_in_channels": 4,
            "text_dim": 32,
            "freq_dim": 32,
            "time_embed_hidden_dim": 32,
            "time_embed_dim": 32,
            "rope_freq_dim": 4,
        },
        call=_minimax,
        pipelines=("MiniMaxH3ModularPipeline",),
    ),
)
