"""Judges the gen1 pipeline: `python examples/gen1/judge.py`.

Makes a video for each of the 64 judged prompts, all of combinations never trained on, and edits 64 drawn clips into
what those prompts say: by another colour or another background. Measures on the pixels whether a video shows what its
prompt says and, of an edit, how far its shape is from the path that the source's shape takes. The same measures on
drawn clips that went through the autoencoder alone say how much of an error is the autoencoder's.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import diffusers
import numpy as np
import torch
from diffusers import TextToVideoSDPipeline, VideoToVideoSDPipeline
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from stages.edits import EVERY, Edit, film_edit, judged_edits, sentence  # noqa: E402

from quant.eval.shapes.draw import draw  # noqa: E402
from quant.eval.shapes.judge import accuracies, stray  # noqa: E402
from quant.eval.shapes.vocabulary import ShapeClip, caption, judged_clips  # noqa: E402

#: Prompts in one call of the pipeline that makes videos; the one that edits takes one at a time.
BATCH = 16
#: Pixels from the source's path up to which an edit has kept the motion, as a mean over its frames.
KEPT = 1.0
#: On the contact sheet: which frames, and how much larger.
SHEET_FRAMES, SHEET_SCALE = (0, 4, 8), 3

#: [N, F, H, W, 3] in 0..1.
Frames = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class Pipelines:
    """What makes videos and what edits them."""

    make: TextToVideoSDPipeline
    edit: VideoToVideoSDPipeline

    @classmethod
    def load(cls, model: Path, editor: Path) -> "Pipelines":
        """Both with float32 weights."""
        make = TextToVideoSDPipeline.from_pretrained(model, dtype=torch.float32)
        edit = VideoToVideoSDPipeline.from_pretrained(editor, dtype=torch.float32)
        for pipeline in (make, edit):
            pipeline.set_progress_bar_config(disable=True)
        return cls(make, edit)


def generate(pipelines: Pipelines, clips: list[ShapeClip], seed: int, settings: dict[str, Any]) -> Frames:
    """A video for the caption of each of `clips`; number i starts from the noise of seed 1000 `seed` + i."""
    made = []
    for start in range(0, len(clips), BATCH):
        prompts = [caption(clip) for clip in clips[start : start + BATCH]]
        noise = [torch.Generator().manual_seed(1000 * seed + start + i) for i in range(len(prompts))]
        made.append(pipelines.make(prompts, generator=noise, output_type="np", **settings).frames)
    return np.concatenate(made).astype(np.float32)


def edit(pipelines: Pipelines, sources: Frames, prompts: list[str], seed: int, settings: dict[str, Any]) -> Frames:
    """Each of `sources`, edited to its prompt; number i with the noise of seed 1000 `seed` + i."""
    made = [
        pipelines.edit(
            prompt,
            video=list(source),
            generator=torch.Generator().manual_seed(1000 * seed + i),
            output_type="np",
            **settings,
        ).frames[0]
        for i, (prompt, source) in enumerate(zip(prompts, sources, strict=True))
    ]
    return np.stack(made).astype(np.float32)


@torch.no_grad()
def reconstruct(pipelines: Pipelines, videos: Frames) -> Frames:
    """`videos`, encoded and decoded."""
    vae = pipelines.make.vae
    frames = torch.from_numpy(videos).flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1
    decoded = vae.decode(vae.encode(frames).latent_dist.mode()).sample
    pixels = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    return pixels.unflatten(0, videos.shape[:2]).numpy()


def motion(videos: Frames, sources: Frames) -> dict[str, float]:
    """How well the shapes in `videos` follow those in `sources`."""
    distances = np.array([stray(video, source) for video, source in zip(videos, sources, strict=True)])
    return {
        "motion_kept": float((distances <= KEPT).mean()),
        "pixels_from_path": round(float(np.median(distances)), 3),
        "pixels_from_path_worst": round(float(distances.max()), 3),
    }


def contact_sheet(rows: list[tuple[str, Frames]], columns: int = 4) -> Image.Image:
    """Cells, each a line of text over videos [V, F, H, W, 3] side by side, a few frames of each."""
    side = rows[0][1].shape[2] * SHEET_SCALE
    width = len(rows[0][1]) * (len(SHEET_FRAMES) * (side + 2) + 6) + 8
    height = side + 16
    sheet = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    for i, (words, videos) in enumerate(rows):
        left, top = i % columns * width, i // columns * height
        ImageDraw.Draw(sheet).text((left + 2, top + 1), words, fill="black")
        for v, video in enumerate(videos):
            for column, frame in enumerate(SHEET_FRAMES):
                picture = Image.fromarray((video[frame] * 255).round().astype(np.uint8))
                picture = picture.resize((side, side), Image.Resampling.NEAREST)
                place = left + v * (len(SHEET_FRAMES) * (side + 2) + 6) + column * (side + 2)
                sheet.paste(picture, (place, top + 13))
    return sheet


def pixels(videos: torch.Tensor) -> Frames:
    """Drawn videos [B, 3, F, H, W] in -1..1 as [B, F, H, W, 3] in 0..1."""
    return (videos / 2 + 0.5).permute(0, 2, 3, 4, 1).numpy()


@click.command(help=__doc__)
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=HERE / "model", show_default=True)
@click.option("--editor", type=click.Path(exists=True, path_type=Path), default=HERE / "editor", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "judged.json", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--count", type=click.IntRange(1, 64), default=64, show_default=True, help="Prompts, and edits.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a contact sheet of the edits to this PNG.")
def main(model: Path, editor: Path, out: Path, seed: int, count: int, sheet: Path | None) -> None:
    settings = json.loads((model / "generation.json").read_text())
    editing = json.loads((editor / "generation.json").read_text())
    pipelines = Pipelines.load(model, editor)
    clips = judged_clips()[:count]
    started = time.perf_counter()
    made = generate(pipelines, clips, seed, settings)
    seconds = (time.perf_counter() - started) / count

    edits: list[Edit] = judged_edits()[:count]
    sources = np.concatenate([pixels(film_edit(e)) for e in edits])
    wanted = [e.edit for e in edits]
    started = time.perf_counter()
    edited = edit(pipelines, sources, [caption(clip) for clip in wanted], seed, editing)
    seconds_an_edit = (time.perf_counter() - started) / count
    asked = edit(pipelines, sources, [sentence(e.source, e.edit) or "" for e in edits], seed, editing)
    drawn = pixels(draw(clips, torch.Generator().manual_seed(seed))[:, :, ::EVERY])
    report = {
        "generation": settings,
        "editing": editing,
        "seed": seed,
        "prompts": count,
        "seconds_a_video": round(seconds, 3),
        "seconds_an_edit": round(seconds_an_edit, 3),
        "generated": accuracies(list(made), clips),
        "edited": accuracies(list(edited), wanted) | motion(edited, sources),
        "edited_by_sentence": accuracies(list(asked), wanted) | motion(asked, sources),
        "reconstructed": accuracies(list(reconstruct(pipelines, drawn)), clips),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }
    text = json.dumps(report, indent=2)
    out.write_text(text + "\n")
    click.echo(text)
    if sheet is not None:
        rows = [
            (sentence(e.source, e.edit) or "", np.stack([source, video]))
            for e, source, video in zip(edits, sources, edited, strict=True)
        ]
        contact_sheet(rows).save(sheet)


if __name__ == "__main__":
    main()
