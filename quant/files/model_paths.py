"""What lies in a diffusers folder, what a path is that was given for one and is none, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.text import shown

#: Every component that diffusers' video pipelines call once per denoising step; Wan2.2 has two experts.
DENOISERS = ("transformer", "transformer_2", "unet")
#: Endings of single files that diffusers' `from_single_file` reads.
_WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")


def no_folder(path: Path) -> str | None:
    """What a path that is no folder is instead, and what would be right; None where nothing is there."""
    try:
        if not path.exists() or path.is_dir():
            return None
    except (OSError, ValueError):  # a name that no file can have
        return None
    if path.suffix.lower() == ".gguf":
        return (
            "is a GGUF file, which is quantized already and not read here; take the folder of the original model, as "
            "diffusers saves it"
        )
    if path.suffix == ".json" or (path.parent / "config.json").is_file():
        return f"is a file; give the folder it lies in, {path.parent}"
    if path.suffix.lower() in _WEIGHTS:
        return (
            "is a file; quant takes folders as diffusers saves them. "
            f"WanTransformer3DModel.from_single_file({str(path)!r}).save_pretrained(DIR) makes one, with the model's "
            "own class in the place of WanTransformer3DModel"
        )
    return "is a file; quant takes folders as diffusers saves them"


def about_config(config: Mapping[str, Any]) -> str | None:
    """Whose model a config.json describes that is no diffusers model's; None where it does not say."""
    if "_class_name" in config or not ("model_type" in config or "architectures" in config):
        return None
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else config.get("model_type")
    return f"is a transformers model, {shown(name)}; quant takes diffusers pipelines and their diffusers components"
