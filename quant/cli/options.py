"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quant.fields import MOST, MOST_SEED
from quant.text import shown

if TYPE_CHECKING:
    from quant.pipelines.settings import GenerationSettings


class _Path(click.Path):
    """A path; an empty one, which would be the folder that one is in, is a slip."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class _Name(click.types.StringParamType):
    """A name, which is not empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


NAME, PATH, FILE = _Name(), _Path(path_type=Path), _Path(path_type=Path, dir_okay=False)
DTYPE = click.Choice(["bfloat16", "float16", "float32"])
SEED, COUNT = click.IntRange(0, MOST_SEED), click.IntRange(1, MOST)

# option, the pipeline's argument, type, help
_GENERATION = (
    ("--height", "height", COUNT, "Pixels."),
    ("--width", "width", COUNT, "Pixels."),
    ("--frames", "num_frames", COUNT, "Frames of a clip."),
    ("--steps", "num_inference_steps", COUNT, "Denoising steps."),
    ("--guidance", "guidance_scale", click.FloatRange(0), "Classifier-free guidance."),
)
_DEFAULT = "  [default: the model's]"


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--height --width --frames --steps --guidance --set`; `given_settings` reads them.

    The model's own are those of its folder's generation.json, else the pipeline's; a command's help should say so.
    """
    command = click.option(
        "--set",
        multiple=True,
        callback=_more,
        metavar="KEY=VALUE",
        help="Any other argument of the pipeline's call that is a number, text, true or false, or a list of these: "
        '--set guidance_scale_2=3 --set "sigmas=[1.0, 0.75, 0.5]" --set negative_prompt=blurry. May be repeated.',
    )(command)
    for option, name, kind, text in reversed(_GENERATION):
        command = click.option(option, name, type=kind, metavar="N", help=text + _DEFAULT)(command)
    return command


def _more(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    """A click callback: KEY=VALUE, a value of JSON or else text."""
    import json

    found: dict[str, Any] = {}
    for each in value:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{shown(each)} is not KEY=VALUE, such as guidance_scale_2=3")
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            found[name] = text
    return found


def share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: "5%" or "0.05" as a share above 0, up to 100%."""
    if value is None:
        return None
    text = value.strip()
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise click.BadParameter(f"{shown(value)} is not a share above 0, such as 5% or 0.05")
    if found > 1:
        meant = f": {text}% or {found / 100:g}" if not text.endswith("%") and found <= 100 else ", such as 5% or 0.05"
        raise click.BadParameter(f"{shown(value)} is more than 100%; say what is meant{meant}")
    return found


def device_here(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A click callback: a device that is here. Raises QuantError for any other."""
    if value is not None:
        from quant.devices import find_device

        find_device(value)
    return value


def gigabytes(ctx: click.Context, param: click.Parameter, value: float) -> int:
    """A click callback: 10^9 bytes, as bytes."""
    if not 1e-9 <= value <= 1e9:
        raise click.BadParameter(f"{value} is not a size in GB, such as 10")
    return int(value * 1e9)


PROMPTS_HELP = ".txt (one a line), .jsonl, .json, .parquet or .csv with a column prompt, caption or text"
INPUTS_HELP = (
    "Instead of prompts, a table whose columns are arguments of the pipeline's call: prompt, negative_prompt, image, "
    "last_image, video, mask, control_video, strength ...: a .jsonl, .json, .csv or .parquet file, a folder, or a "
    "data set. Pictures and videos are paths from the table's folder; docs/inputs.md has all of it."
)
full_option = click.option(
    "--full", is_flag=True, help="Write a complete pipeline folder: copy all other components too."
)
force_option = click.option("--force", is_flag=True, help="Replace DIR if it is a checkpoint of this program.")
shard_size_option = click.option(
    "--shard-size",
    type=float,
    callback=gigabytes,
    default=10.0,
    show_default=True,
    metavar="GB",
    help="Largest file.",
)


def given_settings(values: Mapping[str, Any]) -> GenerationSettings:
    """The settings that were given on the command line."""
    from quant.pipelines.settings import GenerationSettings

    given = {name: value for name, value in values.items() if name != "set"}
    return GenerationSettings(**{**values["set"], **{k: v for k, v in given.items() if v is not None}})
