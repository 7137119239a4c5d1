"""The last stage: everything trained, as the files that a user loads.

    model/       a TextToVideoSDPipeline, the settings to call it with, and how it was made
    editor/      the same networks, by links, as a VideoToVideoSDPipeline with its own settings
    prompts/     captions to calibrate on and captions to judge by
    inputs/      the same of edits: tables of prompts and of the videos to edit

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
from diffusers import TextToVideoSDPipeline
from training.common import Folder

from quant.eval.shapes.draw import SIZE
from quant.eval.shapes.vocabulary import ShapeClip, calibration_clips, caption, judged_clips
from quant.files.video_files import write_bytes
from stages import unet, vae
from stages.edits import FRAMES, Edit, calibration_edits, film_edit, judged_edits
from stages.latents import load_standardised_vae
from stages.models import make_scheduler, make_tokenizer
from stages.unet import load_unet

#: The keyword arguments to call the pipeline with.
GENERATION = {
    "height": SIZE,
    "width": SIZE,
    "num_frames": FRAMES,
    "num_inference_steps": 20,
    "guidance_scale": 2.0,
}
#: Those to edit a video with, at the strength of 0.6 that is the pipeline's own. The prompt needs no guidance there:
#: the network has learned that it is right where the source says something else.
EDITING = {"num_inference_steps": 20, "guidance_scale": 1.0}
#: Frames a second of the videos to edit.
FPS = 8
STAGES = ("vae", "latents", "unet")


def export(folder: Folder, destination: Path) -> None:
    """Write what the stages left in `folder` to `destination`, over what is there."""
    model = destination / "model"
    pipeline(folder).save_pretrained(model)
    _write_json(model / "generation.json", GENERATION)
    _write_json(model / "training.json", record(folder))
    _link_editor(model, destination / "editor")
    _write_captions(destination / "prompts" / "calibration.txt", calibration_clips())
    _write_captions(destination / "prompts" / "judged.txt", judged_clips())
    _write_edits(destination / "inputs", "calibration", calibration_edits())
    _write_edits(destination / "inputs", "judged", judged_edits())
    sizes = [file.stat().st_size for file in model.rglob("*.safetensors")]
    folder.log("export", files=len(sizes), megabytes=sum(sizes) / 1e6)


def _link_editor(model: Path, editor: Path) -> None:
    """Make `editor` a pipeline folder with the components of `model` and another class."""
    editor.mkdir(exist_ok=True)
    index = json.loads((model / "model_index.json").read_text())
    for name, value in index.items():
        if isinstance(value, list) and not (editor / name).is_symlink():
            (editor / name).symlink_to(Path("..") / model.name / name)
    _write_json(editor / "model_index.json", index | {"_class_name": "VideoToVideoSDPipeline"})
    _write_json(editor / "generation.json", EDITING)


def pipeline(folder: Folder) -> TextToVideoSDPipeline:
    """The trained pipeline in bfloat16."""
    text_encoder, denoiser = load_unet(folder)
    return TextToVideoSDPipeline(
        vae=load_standardised_vae(folder).to(torch.bfloat16),
        text_encoder=text_encoder.to(torch.bfloat16),
        tokenizer=make_tokenizer(),
        unet=denoiser.to(torch.bfloat16),
        scheduler=make_scheduler(),
    )


def record(folder: Folder) -> dict[str, Any]:
    """How the model was made. For each stage: steps, seconds, and its last figures on held-out clips."""
    return {
        "script": "examples/gen1/train.py",
        "seeds": {
            "first_weights": {"vae": vae.SEED, "unet": unet.SEED},
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_captions(path: Path, clips: list[ShapeClip]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{caption(clip)}\n" for clip in clips))


def _write_edits(folder: Path, name: str, edits: list[Edit]) -> None:
    """NAME.jsonl, a line for each edit: the caption of its result, and the source as a file without loss."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for i, edit in enumerate(edits):
        file = f"{name}/{i:02}.mp4"
        frames = ((film_edit(edit)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8)
        write_bytes(folder / file, frames.numpy(), fps=FPS)
        lines.append(json.dumps({"prompt": caption(edit.edit), "video": file}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def _cpu() -> str:
    """The processor's name as the system gives it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
