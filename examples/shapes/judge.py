"""Judges the shapes pipeline: `python examples/shapes/judge.py`.

Makes a video for each of the 64 judged prompts, all of combinations never trained on, and measures on its pixels
whether it shows what the prompt says. The same measures on drawn clips that went through the autoencoder alone say
how much of an error is the autoencoder's.
"""

import json
import time
from pathlib import Path
from typing import Any

import click
import diffusers
import numpy as np
import torch
from diffusers import WanPipeline
from PIL import Image, ImageDraw

from quant.eval.shapes.draw import draw
from quant.eval.shapes.judge import accuracies
from quant.eval.shapes.vocabulary import ShapeClip, caption, judged_clips

HERE = Path(__file__).parent
#: Prompts in one call of the pipeline.
BATCH = 16
#: On the contact sheet: which frames, how much larger, and how many videos side by side.
SHEET_FRAMES, SHEET_SCALE, SHEET_COLUMNS = (0, 4, 8, 12, 16), 3, 3

#: [N, F, H, W, 3] in 0..1.
Frames = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def load(model: Path) -> WanPipeline:
    """The pipeline with float32 weights."""
    pipeline = WanPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: WanPipeline, clips: list[ShapeClip], seed: int, settings: dict[str, Any]) -> Frames:
    """A video for the caption of each of `clips`; number i starts from the noise of seed 1000 `seed` + i."""
    made = []
    for start in range(0, len(clips), BATCH):
        prompts = [caption(clip) for clip in clips[start : start + BATCH]]
        noise = [torch.Generator().manual_seed(1000 * seed + start + i) for i in range(len(prompts))]
        made.append(pipeline(prompts, generator=noise, output_type="np", **settings).frames)
    return np.concatenate(made).astype(np.float32)


@torch.no_grad()
def reconstruct(pipeline: WanPipeline, clips: list[ShapeClip], seed: int) -> Frames:
    """`clips` drawn, encoded and decoded."""
    videos = draw(clips, torch.Generator().manual_seed(seed))
    decoded = pipeline.vae.decode(pipeline.vae.encode(videos).latent_dist.mode()).sample
    return (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1).numpy()


def contact_sheet(videos: Frames, clips: list[ShapeClip]) -> Image.Image:
    """A few frames of every video under its caption."""
    side = videos.shape[2] * SHEET_SCALE
    width, height = len(SHEET_FRAMES) * (side + 2) + 8, side + 16
    rows = -(-len(clips) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * width, rows * height), "white")
    for i, (video, clip) in enumerate(zip(videos, clips, strict=True)):
        left, top = i % SHEET_COLUMNS * width, i // SHEET_COLUMNS * height
        words = f"{clip.size} {clip.colour} {clip.shape}, {clip.speed} {clip.direction}, {clip.background}"
        ImageDraw.Draw(sheet).text((left + 2, top + 1), words, fill="black")
        for column, frame in enumerate(SHEET_FRAMES):
            picture = Image.fromarray((video[frame] * 255).round().astype(np.uint8))
            picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + column * (side + 2), top + 13))
    return sheet


@click.command(help=__doc__)
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=HERE / "model", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "judged.json", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a contact sheet of the videos to this PNG.")
def main(model: Path, out: Path, seed: int, sheet: Path | None) -> None:
    settings = json.loads((model / "generation.json").read_text())
    clips = judged_clips()
    pipeline = load(model)
    started = time.perf_counter()
    videos = generate(pipeline, clips, seed, settings)
    report = {
        "generation": settings,
        "seed": seed,
        "prompts": len(clips),
        "seconds_a_video": round((time.perf_counter() - started) / len(clips), 3),
        "generated": accuracies(list(videos), clips),
        "reconstructed": accuracies(list(reconstruct(pipeline, clips, seed)), clips),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }
    text = json.dumps(report, indent=2)
    out.write_text(text + "\n")
    click.echo(text)
    if sheet is not None:
        contact_sheet(videos, clips).save(sheet)


if __name__ == "__main__":
    main()
