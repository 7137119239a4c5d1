"""`quant generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quant.cli.options import (
    DTYPE,
    INPUTS_HELP,
    NAME,
    PATH,
    PROMPTS_HELP,
    SEED,
    device_here,
    generation_options,
    given_settings,
)


@click.command()
@click.argument("checkpoint", type=NAME)
@click.argument("prompt", type=NAME, required=False)
@click.option(
    "--out",
    required=True,
    type=PATH,
    metavar="PATH",
    help="The file to write, .mp4 or .mkv; of --prompts and --inputs a folder of numbered ones.",
)
@click.option("--prompts", type=PATH, metavar="FILE", help=f"Instead of one prompt, many: {PROMPTS_HELP}.")
@click.option("--inputs", type=PATH, metavar="FILE", help=INPUTS_HELP)
@click.option(
    "--base", type=NAME, metavar="PIPELINE", help="The original, of a checkpoint that holds quantized components only."
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of the first video; each next one adds 1."
)
@generation_options
@click.option(
    "--fps",
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="N",
    help="Frames a second of the file.  [default: those that the model is asked for (frame_rate, fps), else 16]",
)
@click.option(
    "--lossless", is_flag=True, help="Keep every colour: .mp4 in 8 bits, .mkv, which a folder gets then, in 16."
)
@click.option("--dtype", type=DTYPE, default="bfloat16", show_default=True, help="Of all that is not quantized.")
@click.option(
    "--device",
    callback=device_here,
    metavar="NAME",
    help="Where it runs.  [default: cuda where there is one, else cpu]",
)
@click.option("--fused", is_flag=True, help="Run each quantized block in fewer and larger ops.")
@click.option("--force", is_flag=True, help="Replace files that are there and are of another request.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def generate(
    checkpoint: str,
    prompt: str | None,
    out: Path,
    prompts: Path | None,
    inputs: Path | None,
    base: str | None,
    seed: int,
    fps: float | None,
    lossless: bool,
    dtype: str,
    device: str | None,
    fused: bool,
    force: bool,
    quiet: bool,
    **generation: Any,
) -> None:
    """Make a video of PROMPT with CHECKPOINT, or a folder of videos of many prompts or inputs.

    CHECKPOINT is any diffusers pipeline, quantized by this program or not, by its folder or hub id; or a checkpoint of
    quantized components alone, with --base naming the original, which has the others.

    Size, frames, steps and guidance are those of the folder's generation.json, else the pipeline's own. An .mkv is
    without loss (FFV1, 16 bits of each colour); an .mp4 is what every player shows, or with --lossless H.264 of red,
    green and blue, which not every one does.

    A file appears when it is complete. A folder's videos that are there are not made again when the same command is
    given again, after it was killed, say, or after the table has grown; files of another request are never replaced
    without --force.

    \b
    Examples:
      quant generate wan-int8 "a fox in the snow" --base ./wan --out fox.mp4
      quant generate Wan-AI/Wan2.1-T2V-1.3B-Diffusers "a fox" --steps 20 --seed 7 --out fox.mkv
      quant generate wan-i2v-int8 --base ./wan-i2v --inputs inputs.jsonl --set strength=0.8 --out videos
    """
    import torch

    import quant
    from quant.cli.progress import silence_loading

    silence_loading()
    made = quant.generate(
        checkpoint,
        out,
        prompt=prompt,
        prompts=prompts,
        inputs=inputs,
        base=base,
        settings=given_settings(generation),
        seed=seed,
        fps=fps,
        lossless=lossless,
        dtype=getattr(torch, dtype),
        device=device,
        fused=True if fused else None,
        force=force,
        progress=not quiet,
    )
    for clip in made.clips:
        what = f"{clip.frames} frames of {clip.width}x{clip.height}, {clip.fps:g} a second"
        click.echo(f"wrote {clip.path}: {what}, {clip.path.stat().st_size / 1e6:,.2f} MB, {made.summary}")
    if made.kept:
        click.echo(f"{len(made.kept)} of this request were in {out} already")
