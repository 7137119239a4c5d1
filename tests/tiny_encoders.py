"""Untrained text encoders of transformers, as video pipelines have them, of a few hundred kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

_DECODER: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_T5: dict[str, Any] = {"vocab_size": 64, "d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 2}
_QWEN: dict[str, Any] = {**_DECODER, "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 2,
    "out_hidden_size": 64,
    "fullatt_block_indexes": [1],
}
#: A class, and what its config is made of: Wan's, CogVideoX's, HunyuanVideo's two, and HunyuanVideo 1.5's.
CLASSES: dict[str, dict[str, Any]] = {
    "UMT5EncoderModel": _T5,
    "T5EncoderModel": _T5,
    "CLIPTextModel": {key: value for key, value in _DECODER.items() if key != "num_key_value_heads"},
    "LlamaModel": _DECODER,
    "Qwen2_5_VLTextModel": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": {"text_config": _QWEN, "vision_config": _VISION},
}


def encoder(name: str, folder: Path) -> Any:
    """In bf16, as `from_pretrained` makes it: casting another would cast its tables of positions, too."""
    torch.manual_seed(0)
    cls = getattr(transformers, name)
    cls(cls.config_class(**CLASSES[name])).save_pretrained(folder)
    return cls.from_pretrained(folder, dtype=torch.bfloat16)


def encoded(model: Any) -> torch.Tensor:
    """The first output of two texts of 12 tokens."""
    ids = torch.randint(8, 64, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = model(ids)[0]
    return found
