"""Files of weights that a conversion reads: codes with scales, and codes that others' configs describe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import quant
from tests.fuzz.target import Target

_FP8 = torch.float8_e4m3fn


def _weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"blocks.{i}.{name}.weight": torch.randn(128, 128) for i in range(2) for name in ("a", "b", "c")}


def _make_scaled(folder: Path) -> None:
    """ComfyUI's two ways, by row and by block, in one file."""
    tensors: dict[str, torch.Tensor] = {}
    by = {"a": torch.tensor(0.01), "b": torch.full((128, 1), 0.01), "c": torch.full((1, 1), 0.01)}
    for key, weight in _weights().items():
        layer, name = key.removesuffix(".weight"), key.split(".")[2]
        tensors[key] = (weight * 100).to(_FP8)
        leaf = "scale_weight" if name == "c" else "weight_scale"
        tensors[f"{layer}.{leaf}"] = by[name].clone()
        if name == "a":
            note = json.dumps({"format": "float8_e4m3fn"}).encode()
            tensors[f"{layer}.comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
    tensors["scaled_fp8"] = torch.zeros(2, dtype=_FP8)
    notes = json.dumps({"layers": {"blocks.0.b": {"format": "float8_e4m3fn"}}})
    (folder / "model").mkdir()
    save_file(tensors, folder / "model" / "model.safetensors", {"_quantization_metadata": notes})


def _make_modelopt(folder: Path) -> None:
    tensors = {}
    for key, weight in _weights().items():
        tensors[key] = (weight * 100).to(_FP8)
        tensors[f"{key}_scale"] = torch.full((128,), 0.01)
    (folder / "model").mkdir()
    save_file(tensors, folder / "model" / "model.safetensors")
    says = {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN", "exclude_modules": []}
    (folder / "model" / "hf_quant_config.json").write_text(json.dumps({"quantization": says}))


def _make_packed(folder: Path) -> None:
    """As llm-compressor writes it: the same layout without hashes."""
    (folder / "original").mkdir()
    save_file(_weights(), folder / "original" / "model.safetensors")
    quant.convert(folder / "original", folder / "made", scheme="W4A16_ASYM", progress=False)
    shutil.rmtree(folder / "original")
    (folder / "model").mkdir()
    save_file(
        load_file(folder / "made" / "diffusion_pytorch_model.safetensors"), folder / "model" / "model.safetensors"
    )
    shutil.move(folder / "made" / "config.json", folder / "model")
    shutil.rmtree(folder / "made")


def _make_original(folder: Path) -> None:
    """LTX in its authors' names, which are few replacements."""
    from diffusers import LTXVideoTransformer3DModel

    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 16}
    model = LTXVideoTransformer3DModel(in_channels=4, out_channels=4, num_layers=2, **sizes)
    names = (("proj_in", "patchify_proj"), ("time_embed", "adaln_single"), ("norm_q", "q_norm"), ("norm_k", "k_norm"))
    tensors = {}
    for key, tensor in model.state_dict().items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        tensors[f"model.diffusion_model.{key}"] = tensor
    model.save_config(folder / "model")
    save_file(tensors, folder / "model" / "model.safetensors")


def _make_transformers(folder: Path) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    config = UMT5Config(d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16, vocab_size=50)
    UMT5EncoderModel(config).save_pretrained(folder / "model")


def _convert(folder: Path, scheme: str) -> Any:
    out = folder.with_name(f"{folder.name}-out")
    try:
        quant.convert(folder / "model", out, scheme=scheme, progress=False)
        (file,) = out.glob("*.safetensors")  # each library's files have names of their own
        return load_file(file)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _convert_to_int8(folder: Path) -> Any:
    return _convert(folder, "W8A8")


def _keep_fp8(folder: Path) -> Any:
    return _convert(folder, "FP8_DYNAMIC")


def _keep_int4(folder: Path) -> Any:
    return _convert(folder, "W4A16_ASYM")


INPUTS = (
    Target("scaled codes", _make_scaled, _convert_to_int8, mutated=("model/*",)),
    Target("codes of ModelOpt", _make_modelopt, _keep_fp8, mutated=("model/*",), share=0.5),
    Target("codes of llm-compressor", _make_packed, _keep_int4, mutated=("model/*",)),
    Target("authors' names", _make_original, _convert_to_int8, mutated=("model/*",), share=0.5),
    Target("transformers model", _make_transformers, _convert_to_int8, mutated=("model/*",), share=0.5),
    Target("codes of llm-compressor as weights", _make_packed, _convert_to_int8, mutated=("model/*",), share=0.5),
)
