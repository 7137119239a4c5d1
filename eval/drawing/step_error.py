"""How far a candidate's latents have moved from the original's at each denoising step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quant.eval.drawing.axes import Scale, frame, horizontal, vertical
from quant.eval.drawing.markup import Piece, colour, escape, mark, note, swatch
from quant.eval.drawing.sensitivity import percent
from quant.eval.results.recorded import Recorded


@dataclass(frozen=True)
class Curve:
    """`errors` of one candidate at `steps`, which count from 1; `how` says what they were estimated from."""

    name: str
    place: int
    steps: Sequence[int]
    errors: Sequence[float]
    how: str


def step_errors(recorded: Recorded) -> Piece:
    """A line a candidate: ||x_c - x_o|| / ||x_o|| by step on a logarithmic axis. Models without it are named."""
    found = curves(recorded)
    lacking = [model["name"] for model in recorded.candidates if not model.get("step_error")]
    positive = [value for curve in found for value in curve.errors if value > 0]
    if not positive:
        why = "every latent is identical to the original’s" if found else "no latents were recorded"
        return Piece(note(f"No curve: {why}."))
    # Wide enough that a 1, 2 or 5 is always in it.
    y = vertical(min(positive) / 1.7, max(positive) * 1.7, log=True)
    steps = [step for curve in found for step in curve.steps]
    x = horizontal(min(steps) - 0.5, max(steps) + 0.5)
    svg = frame(
        x,
        y,
        x_title="denoising step",
        y_title="relative difference of the latents",
        x_text=lambda v: f"{v:g}" if v == int(v) else "",
        y_text=percent,
        inner="".join(_line(curve, x, y) for curve in found),
        label="Relative difference of the latents from the original’s by denoising step",
    )
    how = " and ".join(dict.fromkeys(curve.how for curve in found))
    caption = f"Mean over samples, estimated {escape(how)}; logarithmic. Figures are those of the last step."
    if lacking:
        caption += f" Not recorded: {escape(', '.join(lacking))}."
    legend = f'<ul class="legend">{"".join(map(_entry, found))}</ul>'
    return Piece(
        f'<figure class="card chart" data-plot="steps">{svg}{legend}<figcaption>{caption}</figcaption></figure>'
    )


def curves(recorded: Recorded) -> list[Curve]:
    """The curves of the candidates that have one, in their order."""

    def curve(model: Mapping[str, Any], body: Mapping[str, Any]) -> Curve:
        return Curve(model["name"], recorded.place(model), body["steps"], body["error"], body["estimated"])

    return [curve(model, model["step_error"]) for model in recorded.candidates if model.get("step_error")]


def _line(curve: Curve, x: Scale, y: Scale) -> str:
    """A logarithm has no place for 0: such steps are left out."""
    places = [(x(step), y(value)) for step, value in zip(curve.steps, curve.errors, strict=True) if value > 0]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = "".join(mark(curve.place, a, b, 3.4) for a, b in places)
    return (
        f'<g class="c{colour(curve.place)}" data-model="{escape(curve.name)}">'
        f'<polyline class="line" points="{path}"/>{dots}<title>{escape(curve.name)}</title></g>'
    )


def _entry(curve: Curve) -> str:
    last = percent(curve.errors[-1]) if any(curve.errors) else "identical"
    return f"<li>{swatch(curve.place)}{escape(curve.name)} <b>{last}</b></li>"
