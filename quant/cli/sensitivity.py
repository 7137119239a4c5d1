"""`quant sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quant.cli.options import COUNT, FILE, INPUTS_HELP, NAME, PATH, device_here, generation_options, given_settings

if TYPE_CHECKING:
    from quant.checkpoint.sensitivity import Sensitivity

_SHOWN = 20


@click.command()
@click.argument("model", type=NAME)
@click.option(
    "--recipe", required=True, type=NAME, metavar="NAME|FILE", help="How layers are quantized, each on its own."
)
@click.option(
    "--prompts",
    type=PATH,
    metavar="FILE",
    help="Prompts, as for `quant calibrate`.",
)
@click.option("--inputs", type=PATH, metavar="FILE", help=INPUTS_HELP)
@click.option(
    "--out",
    type=FILE,
    default=Path("sensitivity.json"),
    show_default=True,
    metavar="FILE",
    help="What was measured, as JSON; a picture of the same name goes beside it, as SVG.",
)
@click.option(
    "--by",
    type=click.Choice(["layer", "block", "step"]),
    default="layer",
    show_default=True,
    help="What is quantized alone; a step is all layers at one denoising step.",
)
@click.option(
    "--runs",
    type=COUNT,
    default=4,
    show_default=True,
    metavar="N",
    help="Prompts or rows that are run to measure, the first of FILE.",
)
@click.option(
    "--measured-steps",
    type=COUNT,
    metavar="N",
    help="Denoising steps of each run that are measured, evenly from first to last.  [default: 5; all with --by step]",
)
@click.option("--samples", type=COUNT, metavar="N", help="Prompts of the recipe's own calibration.")
@generation_options
@click.option(
    "--device",
    callback=device_here,
    metavar="NAME",
    help="Where it runs.  [default: cuda where there is one, else cpu]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what is written to FILE instead of a table.")
@click.option("--force", is_flag=True, help="Replace FILE if this command wrote it.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def sensitivity(
    model: str,
    recipe: str,
    prompts: Path | None,
    inputs: Path | None,
    out: Path,
    by: str,
    runs: int,
    measured_steps: int | None,
    samples: int | None,
    device: str | None,
    as_json: bool,
    force: bool,
    quiet: bool,
    **generation: Any,
) -> None:
    """Measure which layers, blocks or denoising steps of MODEL suffer most from a recipe.

    Quantizes every layer (or block) on its own while the pipeline runs, and measures how far the denoiser's prediction
    moves: ||e' - e|| / ||e|| on the inputs that the original sees. Each measured call is made once more for every
    layer, so a model of 400 layers with 2 runs of 5 steps costs about 8,000 calls with guidance; --by block costs
    a tenth. --by step quantizes all layers at one step after the other, which costs each measured call twice, and
    says which first and last steps of the schedule stand out, as the recipe's key `steps` takes them.

    The errors add up well enough to choose by: `quant calibrate --keep-budget 5%` measures the same and keeps the most
    sensitive layers in higher precision.

    \b
    Example:
      quant sensitivity ./wan --recipe w4a8 --prompts prompts.txt --by block --out wan-w4a8.json
    """
    import quant
    from quant.errors import QuantError
    from quant.eval.drawing.sensitivity import sensitivity_svg
    from quant.files.places import check_apart, file_to_write

    picture = out.with_suffix(".svg")
    if picture == out:
        raise QuantError(f"{out}: is the JSON file; the picture takes the name with .svg")
    for path in (out, picture):
        check_apart(path, [Path(model)])
    with file_to_write(out) as write, file_to_write(picture) as draw:
        for path, ours in ((out, _is_measured), (picture, _is_drawn)):
            if not path.exists():
                continue
            if not ours(path):
                raise QuantError(f"{path}: exists and was not written by this command; choose another --out")
            if not force:
                raise QuantError(f"{path}: exists; give --force to replace it, or another --out")
        try:
            found = quant.measure_sensitivity(
                model,
                recipe,
                prompts,
                inputs=inputs,
                by=by,
                runs=runs,
                steps=measured_steps,
                settings=given_settings(generation),
                samples=samples,
                device=device,
                progress=not quiet,
            )
        except KeyboardInterrupt as stop:
            raise type(stop)("interrupted; nothing was written: the same command starts anew") from None
        # Before it is written: should the disk be full by now, this is not lost.
        for line in [found.to_json().rstrip()] if as_json else _by_step(found) if by == "step" else _table(found):
            click.echo(line)
        write(found.to_json())
        draw(sensitivity_svg(found))
    click.echo(f"\nwrote {out} and {picture}", err=as_json)


def _is_measured(path: Path) -> bool:
    from quant.checkpoint.sensitivity import Sensitivity

    try:
        Sensitivity.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _is_drawn(path: Path) -> bool:
    from quant.eval.drawing.sensitivity import CAPTION

    try:
        return CAPTION in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _table(found: Sensitivity) -> list[str]:
    """The most sensitive, with the steps at which they are so."""
    from quant.cli.tables import aligned
    from quant.eval.drawing.sensitivity import percent

    head = (f"{found.units[0].component}" if found.units else "", "scheme", "error")
    steps = tuple(f"step {step + 1}" for step in found.steps)
    several = len({unit.component for unit in found.units}) > 1
    rows = [
        (
            f"{unit.component}: {unit.name}" if several else unit.name,
            unit.scheme,
            percent(unit.error),
            *(percent(value) for value in unit.by_step),
        )
        for unit in found.ranked[:_SHOWN]
    ]
    lines = aligned([(*(("layer",) if several else head[:1]), *head[1:], *steps), *rows], figures=range(2, 99))
    more = len(found.units) - _SHOWN
    return [*lines, f"and {more} more, in the file"] if more > 0 else lines


def _by_step(found: Sensitivity) -> list[str]:
    """Each measured step, and which ends of the schedule stand out."""
    from quant.checkpoint.sensitivity import ends_that_stand_out
    from quant.cli.tables import aligned
    from quant.eval.drawing.sensitivity import percent

    head = ("step", "timestep", *(unit.component for unit in found.units))
    rows = [
        (str(step + 1), f"{timestep:g}", *(percent(unit.by_step[i]) for unit in found.units))
        for i, (step, timestep) in enumerate(zip(found.steps, found.timesteps, strict=True))
    ]
    lines = aligned([head, *rows], figures=range(len(head)))
    if found.steps != tuple(range(len(found.steps))):  # some were left out
        return lines
    size = len(found.steps)
    # Experts share the schedule: at each step the one that is called has an error.
    first, last = ends_that_stand_out([max(unit.by_step[i] for unit in found.units) for i in range(size)])
    if not first and not last:
        return [*lines, "", "neither the first nor the last steps are off by more than twice the median"]
    shares = ", ".join(f"{end}: {count / size:.3g}" for end, count in (("first", first), ("last", last)) if count)
    which = " and ".join(f"the {end} {count}" for end, count in (("first", first), ("last", last)) if count)
    return [*lines, "", f"{which} of {size} steps are off by more than twice the median: steps: {{{shares}}}"]
