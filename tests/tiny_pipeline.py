"""A complete, untrained WanPipeline of a few hundred kilobytes, for tests of what handles pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

WIDTH, FFN, TEXT, BLOCKS = 64, 128, 32, 2
SETTINGS: dict[str, Any] = {
    "height": 16,
    "width": 16,
    "num_frames": 5,
    "num_inference_steps": 2,
    "guidance_scale": 3.0,
    "max_sequence_length": 8,
}
PROMPTS = ["a red fox", "a blue bird", "snow"]
#: Linears of one block: q, k, v and out of two attentions, and the two of the feed-forward.
LINEARS = 10 * BLOCKS


def transformer(**changes: Any) -> WanTransformer3DModel:
    """Seeded; every weight is drawn, those that diffusers starts at zero too."""
    torch.manual_seed(0)
    sizes = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": WIDTH // 2,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": TEXT,
        "freq_dim": 32,
        "ffn_dim": FFN,
        "num_layers": BLOCKS,
        "cross_attn_norm": True,
        "rope_max_seq_len": 16,
    }
    model = WanTransformer3DModel(**{**sizes, **changes})
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    return model.to(torch.bfloat16).eval()


def pipeline(**changes: Any) -> WanPipeline:
    """With bf16 weights, as published models have them; `changes` are the transformer's."""
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_spatial=4,
        scale_factor_temporal=4,
    )
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=16, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=4))
    return WanPipeline(
        tokenizer=_tokenizer(),
        text_encoder=encoder.to(torch.bfloat16).eval(),
        vae=vae.to(torch.bfloat16).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer(**changes),
    )


def save_pipeline(folder: Path, **changes: Any) -> Path:
    """Writes the pipeline and its `generation.json`; `changes` are the transformer's."""
    pipeline(**changes).save_pretrained(folder)
    (folder / "generation.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "fox", "bird", "snow"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
