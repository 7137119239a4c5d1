"""The last stage: everything trained, as the files that a user loads.

    model/               a diffusers pipeline, the settings to call it with, and how it was made
    metric_networks/     a CLIP and a VideoMAE, as transformers has them
    prompts/             captions to calibrate on and captions to judge by

Weights are bfloat16 safetensors.
"""

import json
import os
import platform
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from quant.eval.shapes.draw import FRAMES, SIZE
from quant.eval.shapes.vocabulary import ShapeClip, calibration_clips, caption, judged_clips
from training import network, transformer, vae
from training.clip import load_clip, make_clip_processor
from training.common import Folder
from training.models import make_tokenizer
from training.transformer import SHIFT, load_transformer
from training.vae import load_vae
from training.videomae import load_videomae, make_videomae_processor

#: The keyword arguments to call the pipeline with.
GENERATION = {
    "height": SIZE,
    "width": SIZE,
    "num_frames": FRAMES,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
}
STAGES = ("vae", "latents", "transformer", "clip", "videomae")


def export(folder: Folder, destination: Path) -> None:
    """Write what the stages left in `folder` to `destination`, over what is there."""
    pipeline(folder).save_pretrained(destination / "model")
    _write_json(destination / "model" / "generation.json", GENERATION)
    _write_json(destination / "model" / "training.json", record(folder))

    clip = destination / "metric_networks" / "clip"
    load_clip(folder).to(torch.bfloat16).save_pretrained(clip)
    make_clip_processor().save_pretrained(clip)
    # Older readers of the image processor look for a file of its own.
    make_clip_processor().image_processor.save_pretrained(clip)
    videomae = destination / "metric_networks" / "videomae"
    load_videomae(folder).to(torch.bfloat16).save_pretrained(videomae)
    make_videomae_processor().save_pretrained(videomae)

    for written in (*(destination / "model").rglob("*.json"), *clip.glob("*.json")):
        _name_tokenizer(written)
    _write_captions(destination / "prompts" / "calibration.txt", calibration_clips())
    _write_captions(destination / "prompts" / "judged.txt", judged_clips())
    sizes = [file.stat().st_size for part in ("model", "metric_networks") for file in _weights(destination / part)]
    folder.log("export", files=len(sizes), megabytes=sum(sizes) / 1e6)


def pipeline(folder: Folder) -> WanPipeline:
    """The trained pipeline in bfloat16; its autoencoder knows how to undo the scaling of the latents."""
    autoencoder = load_vae(folder)
    data = folder.require("latents")
    autoencoder.register_to_config(latents_mean=data["mean"], latents_std=data["std"])
    text_encoder, denoiser = load_transformer(folder)
    return WanPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=text_encoder.to(torch.bfloat16),
        vae=autoencoder.to(torch.bfloat16),
        transformer=denoiser.to(torch.bfloat16),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    )


def record(folder: Folder) -> dict[str, Any]:
    """How the model was made. For each stage: steps, seconds, and its last figures on held-out clips."""
    return {
        "script": "examples/shapes/train.py",
        "seeds": {
            "first_weights": {"vae": vae.SEED, "transformer": transformer.SEED, "metric_networks": network.SEED},
            "data_and_noise": "made from the step's number",
        },
        "stages": {stage: folder.last_figures(stage) for stage in STAGES},
        "machine": {"cpu": _cpu(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }


def _name_tokenizer(file: Path) -> None:
    """Give the tokenizer's class the name that every transformers release knows; 5 writes its own newer one."""
    text = file.read_text()
    if '"TokenizersBackend"' in text:
        file.write_text(text.replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'))


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_captions(path: Path, clips: list[ShapeClip]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{caption(clip)}\n" for clip in clips))


def _cpu() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
