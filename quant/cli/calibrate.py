"""`quant calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    force_option,
    full_option,
    generation_options,
    given_settings,
    shard_size_option,
    share,
)

if TYPE_CHECKING:
    from quant.recipe_parts import KeepBudget


@click.command()
@click.argument("model", type=NAME)
@click.option(
    "--recipe", required=True, type=NAME, metavar="NAME|FILE", help="A recipe of `quant recipes`, or a .yaml file."
)
@click.option("--out", required=True, type=PATH, metavar="DIR", help="The folder to make.")
@click.option(
    "--prompts",
    type=PATH,
    metavar="FILE",
    help=f"Prompts to calibrate on: {PROMPTS_HELP}. Recipes that need no data run without.",
)
@click.option("--inputs", type=PATH, metavar="FILE", help=INPUTS_HELP)
@click.option(
    "--calls",
    type=PATH,
    metavar="DIR",
    help="Calibrate on what `quant record` has recorded of this model, block by block, without running the pipeline. "
    "With --prompts or --inputs: record them in DIR, if it is not there, and keep it.",
)
@click.option("--samples", type=COUNT, metavar="N", help="Run the first N prompts or rows.  [default: the recipe's]")
@click.option("--seed", type=SEED, metavar="N", help="Of the initial latents.  [default: the recipe's]")
@generation_options
@click.option(
    "--keep-budget",
    callback=share,
    metavar="SHARE",
    help="Measure every layer's sensitivity and keep the most sensitive ones as they are, so that the checkpoint "
    'grows by no more than this, such as "5%". Needs --prompts or --inputs; costs what `quant sensitivity` costs.',
)
@click.option(
    "--keep-as", metavar="SCHEME", help="With --keep-budget: give those layers this scheme, such as W8A8, instead."
)
@full_option
@force_option
@click.option(
    "--dtype",
    type=DTYPE,
    default="bfloat16",
    show_default=True,
    help="Of everything that is not packed, and of calibration runs.",
)
@click.option(
    "--device",
    callback=device_here,
    metavar="NAME",
    help="Where calibration runs.  [default: cuda where there is one, else cpu]",
)
@shard_size_option
@click.option("--quiet", is_flag=True, help="No progress bars and no table of layers.")
def calibrate(
    model: str,
    recipe: str,
    out: Path,
    prompts: Path | None,
    inputs: Path | None,
    calls: Path | None,
    samples: int | None,
    seed: int | None,
    keep_budget: float | None,
    keep_as: str | None,
    full: bool,
    force: bool,
    dtype: str,
    device: str | None,
    shard_size: int,
    quiet: bool,
    **generation: Any,
) -> None:
    """Make a quantized checkpoint of MODEL, a diffusers pipeline folder or hub id.

    Runs the pipeline on the prompts or inputs where the recipe needs statistics, prints what became of every layer, and
    writes DIR with config.json and safetensors, the recipe, and a manifest with a SHA-256 of every file. DIR
    appears when it is complete. MODEL is not changed, and DIR may not lie in it. A calibration that was killed, was
    interrupted or met a full disk goes on when the same command is given again: until then .DIR.quant beside DIR
    keeps what was done.

    Size, frames, steps and guidance are the model's own where they are not given: those of generation.json in its
    folder, else the defaults of its pipeline class. Calibrate as you will generate: ranges depend on them. A pipeline
    that starts from a picture or a video gets it from a table, --inputs, whose columns are arguments of its call.

    Recipes that solve layers (GPTQ, 2:4) take 32 steps of a few inputs, which are recorded first and then go through
    the denoiser's blocks, one after the other, with the weights of one block in memory. With --calls DIR alone the
    pipeline is neither run nor loaded: one recording serves any number of recipes, and several processes may share it,
    as torchrun starts them: docs/many_processes.md.

    \b
    Examples:
      quant calibrate Wan-AI/Wan2.1-T2V-1.3B-Diffusers --recipe fp8-dynamic --out wan-fp8
      quant calibrate ./wan --recipe w8a8 --prompts prompts.txt --steps 20 --full --out wan-int8
      quant calibrate ./wan --recipe w4a16-gptq --calls wan-calls --out wan-int4
      quant calibrate ./wan --recipe w8a8-gptq --prompts prompts.txt --calls wan-calls --out wan-int8
      quant calibrate ./wan-i2v --recipe w8a8 --inputs inputs.jsonl --set guidance_scale_2=3 --out wan-i2v-int8
      quant calibrate ./wan --recipe w4a8 --prompts prompts.txt --keep-budget 5% --keep-as W8A8 --out wan-mixed
    """
    import torch

    import quant
    from quant.calibration.ranks import Ranks
    from quant.cli.tables import component_table

    made = quant.calibrate(
        model,
        recipe,
        out,
        prompts=prompts,
        inputs=inputs,
        calls=calls,
        full=full,
        force=force,
        settings=given_settings(generation),
        dtype=getattr(torch, dtype),
        device=device,
        samples=samples,
        seed=seed,
        keep_budget=_keep(keep_budget, keep_as),
        max_shard_bytes=shard_size,
        progress=not quiet,
    )
    if not Ranks.of_environment().is_first:
        return
    if not quiet:
        for component in quant.inspect(out).components:
            click.echo(component_table(component))
            click.echo()
    given = inputs or prompts or calls
    if given is not None and not made.used_prompts:
        click.echo(f"note: {made.recipe.name} needs no data; {given} was not used")
    click.echo(f"wrote {out}; look into it with: quant inspect {out}")


def _keep(budget: float | None, scheme: str | None) -> KeepBudget | None:
    from quant.errors import QuantError
    from quant.formats.scheme import Scheme
    from quant.recipe_parts import KeepBudget

    if budget is None:
        if scheme is not None:
            raise QuantError("--keep-as: says what --keep-budget keeps layers as; give both")
        return None
    return KeepBudget(budget, None if scheme is None else Scheme.parse(scheme, "--keep-as"))
