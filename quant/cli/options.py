"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from quant.models.generation import GenerationSettings

# option, the pipeline's argument, type, help
_GENERATION = (
    ("--height", "height", click.IntRange(1), "Pixels."),
    ("--width", "width", click.IntRange(1), "Pixels."),
    ("--frames", "num_frames", click.IntRange(1), "Frames of a clip."),
    ("--steps", "num_inference_steps", click.IntRange(1), "Denoising steps."),
    ("--guidance", "guidance_scale", click.FloatRange(0), "Classifier-free guidance."),
)
_DEFAULT = "  [default: the model's]"


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--height --width --frames --steps --guidance`; `given_settings` reads them.

    The model's own are those of its folder's generation.json, else the pipeline's; a command's help should say so.
    """
    for option, name, kind, text in reversed(_GENERATION):
        command = click.option(option, name, type=kind, metavar="N", help=text + _DEFAULT)(command)
    return command


def share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: "5%" or "0.05" as a share above 0."""
    if value is None:
        return None
    text = value.strip()
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise click.BadParameter(f"{value!r} is not a share above 0, such as 5% or 0.05")
    return found


def given_settings(values: Mapping[str, Any]) -> GenerationSettings:
    """The settings that were given on the command line."""
    from quant.models.generation import GenerationSettings

    return GenerationSettings(**values)
