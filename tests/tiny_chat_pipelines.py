"""Untrained pipelines whose text encoder is a language model that is spoken to: as in `tests.tiny_pipelines`."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers
from tokenizers import processors

from tests.tiny_pipeline import _tokenizer

_TEXT = 32
#: Words in which a message of every role begins with more tokens than any of these pipelines cuts off.
_TEMPLATE = (
    "{{ 'a ' * 140 }}{% for message in messages %}{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }} {% endfor %}{% endif %} {% endfor %}"
)
#: Wan's autoencoder as Cosmos and Sana have it.
_VAE: dict[str, Any] = {
    "base_dim": 3,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}


def chat_tokenizer() -> Any:
    """Words, with a template for messages."""
    tokenizer = _tokenizer()
    tokenizer.chat_template = _TEMPLATE
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|vision_start|>"]})
    return tokenizer


def _qwen() -> Any:
    config = transformers.Qwen2_5_VLTextConfig(
        vocab_size=16, hidden_size=_TEXT, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, rope_scaling={"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"},
    )  # fmt: skip
    return transformers.Qwen2_5_VLTextModel(config).eval()


def hunyuan_15() -> Any:
    """HunyuanVideo 1.5: it reports no steps, and its guider decides what guidance is."""
    denoiser = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_refiner_layers=1,
        mlp_ratio=2.0, patch_size=1, patch_size_t=1, text_embed_dim=_TEXT, text_embed_2_dim=32, image_embed_dim=12,
        rope_axes_dim=(2, 2, 4), target_size=16, task_type="t2v",
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(16, 16), layers_per_block=1, spatial_compression_ratio=4,
        temporal_compression_ratio=2, downsample_match_channel=False, upsample_match_channel=False,
    )  # fmt: skip
    glyphs = transformers.T5Config(vocab_size=400, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    return diffusers.HunyuanVideo15Pipeline(
        text_encoder=_qwen(),
        tokenizer=chat_tokenizer(),
        transformer=denoiser.eval(),
        vae=vae.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=transformers.T5EncoderModel(glyphs).eval(),
        tokenizer_2=transformers.ByT5Tokenizer(),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=2.0),
    )


def kandinsky_5(kind: str = "Kandinsky5T2VPipeline") -> Any:
    """Kandinsky 5 of the class `kind`, whose latents have their channels last."""
    cut = chat_tokenizer()
    prefix = " ".join(["</s>"] * 140)
    cut._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{prefix} $A </s>", special_tokens=[("</s>", 1)]
    )
    clip = _tokenizer()
    clip.model_max_length, clip.model_input_names = 77, ["input_ids", "attention_mask"]
    clip_config = transformers.CLIPTextConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, eos_token_id=1
    )
    denoiser = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16, in_text_dim=_TEXT, in_text_dim2=16, time_dim=16, out_visual_dim=16, patch_size=(1, 2, 2),
        model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(1, 1, 2),
        visual_cond=kind == "Kandinsky5I2VPipeline", attention_type="regular",
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo(
        block_out_channels=[32, 64], down_block_types=["HunyuanVideoDownBlock3D"] * 2, latent_channels=16,
        layers_per_block=1, mid_block_add_attention=False, spatial_compression_ratio=8, temporal_compression_ratio=4,
        up_block_types=["HunyuanVideoUpBlock3D"] * 2,
    )  # fmt: skip
    return getattr(diffusers, kind)(
        transformer=denoiser.eval(),
        vae=vae.eval(),
        text_encoder=_qwen(),
        tokenizer=cut,
        text_encoder_2=transformers.CLIPTextModel(clip_config).eval(),
        tokenizer_2=clip,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )


def cosmos_3() -> Any:
    """Cosmos 3, whose denoiser reads text itself."""
    denoiser = diffusers.Cosmos3OmniTransformer(
        head_dim=16, hidden_act="relu2", hidden_size=32, intermediate_size=32, latent_channel=16, latent_patch_size=1,
        num_attention_heads=2, num_hidden_layers=1, num_key_value_heads=2, patch_latent_dim=16, qk_norm_for_text=False,
        rope_axes_dim=[4, 2, 2], vocab_size=16,
    )  # fmt: skip
    return diffusers.Cosmos3OmniPipeline(
        transformer=denoiser.eval(),
        text_tokenizer=chat_tokenizer(),
        vae=diffusers.AutoencoderKLWan(**_VAE).eval(),
        scheduler=diffusers.UniPCMultistepScheduler(),
        enable_safety_checker=False,
    )


def sana_video() -> Any:
    """Sana-Video, whose denoiser is half convolutions, and whose call says `frames`."""
    gemma = transformers.Gemma2Config(
        head_dim=16, hidden_size=8, intermediate_size=64, num_attention_heads=2, num_hidden_layers=1,
        num_key_value_heads=2, vocab_size=16, attn_implementation="eager",
    )  # fmt: skip
    denoiser = diffusers.SanaVideoTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=12, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=8,
        mlp_ratio=2.5, dropout=0.0, attention_bias=False, sample_size=8, patch_size=(1, 2, 2),
        norm_elementwise_affine=False, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    return diffusers.SanaVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=transformers.Gemma2Model(gemma).eval(),
        vae=diffusers.AutoencoderKLWan(**_VAE).eval(),
        transformer=denoiser.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
    )
