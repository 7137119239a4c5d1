"""`quant record`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quant.cli.options import (
    COUNT,
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
@click.argument("model", type=NAME)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="The folder to make.")
@click.option("--prompts", type=PATH, metavar="FILE", help=f"What to run: {PROMPTS_HELP}.")
@click.option("--inputs", type=PATH, metavar="FILE", help=INPUTS_HELP)
@click.option(
    "--calls",
    type=COUNT,
    default=32,
    show_default=True,
    metavar="N",
    help="Steps recorded of each denoiser, with all calls that guidance makes at a step.",
)
@click.option(
    "--samples",
    type=COUNT,
    metavar="N",
    help="Take inputs from the first N prompts or rows; a quarter as many are run as --calls.  [default: 32]",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, metavar="N", help="Of the initial latents and of the choice."
)
@generation_options
@click.option("--dtype", type=DTYPE, default="bfloat16", show_default=True, help="Of the run: that of a calibration.")
@click.option(
    "--device",
    callback=device_here,
    metavar="NAME",
    help="Where it runs.  [default: cuda where there is one, else cpu]",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def record(
    model: str,
    out: Path,
    prompts: Path | None,
    inputs: Path | None,
    calls: int,
    samples: int | None,
    seed: int,
    dtype: str,
    device: str | None,
    quiet: bool,
    **generation: Any,
) -> None:
    """Record what MODEL's denoisers are called with, once, for many calibrations.

    MODEL, a diffusers pipeline folder or hub id, runs on a few of the prompts or inputs, and DIR gets all arguments of
    its denoisers' calls at some steps: latents, timestep, text, whatever else. With these a denoiser runs alone: a
    calibration on them, `quant calibrate --calls DIR`, costs a forward pass of the calls, not of the pipeline. Without
    --calls recipes that solve layers make a recording for themselves, and remove it.

    Of 32 steps each input has 4, far apart and spread over the whole schedule, so that 8 inputs are run, each up to its
    last recorded step. Of Wan 2.2 each expert gets 32 steps of its own. More --calls take more inputs. Which steps is
    known before: a recording that was killed or interrupted goes on with the input it was at when the same command is
    given again, and ends in the same files. DIR appears when it is complete; until then .DIR.quant next to it keeps
    what was done.

    Size, frames, steps and guidance are the model's own where they are not given, as for `quant calibrate`. Record as
    you will generate: a distilled model with its 4 to 8 steps.

    \b
    Examples:
      quant record Wan-AI/Wan2.2-T2V-A14B-Diffusers --prompts prompts.txt --out wan-calls
      quant record ./wan --prompts prompts.txt --steps 20 --calls 64 --out wan-calls
      quant record ./wan-i2v --inputs inputs.jsonl --set guidance_scale_2=3 --out wan-i2v-calls
    """
    import torch

    import quant

    made = quant.record(
        model,
        out,
        prompts=prompts,
        inputs=inputs,
        calls=calls,
        settings=given_settings(generation),
        dtype=getattr(torch, dtype),
        device=device,
        samples=samples,
        seed=seed,
        progress=not quiet,
    )
    for component in made.components:
        places = made.places(component)
        steps = {(place.row, place.step) for place in places}
        inputs_run = {place.row for place in places}
        click.echo(f"{component}: {len(steps)} steps of {len(inputs_run)} inputs, {len(places)} calls")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"wrote {out}, {size / 1e6:,.1f} MB")
