"""How far a candidate's latents have moved from the original's at each denoising step."""

from __future__ import annotations

from quant.eval.report.axes import WIDTH, frame, horizontal, vertical
from quant.eval.report.markup import Piece, colour, escape, mark, note
from quant.eval.report.recorded import Recorded
from quant.eval.report.sensitivity import percent


def step_errors(recorded: Recorded) -> Piece:
    """A line a candidate: ||x_c - x_o|| / ||x_o|| by step on a logarithmic axis. Models without it are named."""
    lines = {
        model["name"]: (recorded.place(model), model["step_error"]["steps"], model["step_error"]["error"])
        for model in recorded.candidates
        if model.get("step_error")
    }
    lacking = [model["name"] for model in recorded.candidates if model["name"] not in lines]
    positive = [value for _, _, errors in lines.values() for value in errors if value > 0]
    if not positive:
        why = "no latents were recorded" if not lines else "every latent is identical to the original’s"
        return Piece(note(f"No curve: {why}."))
    y = vertical(min(positive) / 1.5, max(positive) * 1.5, log=True)
    steps = [step for _, found, _ in lines.values() for step in found]
    x = horizontal(min(steps) + 0.5, max(steps) + 1.5)
    inner = []
    for name, (place, numbers, errors) in lines.items():
        places = [(x(step + 1), y(value)) for step, value in zip(numbers, errors, strict=True) if value > 0]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        dots = "".join(mark(place, a, b, 3.4) for a, b in places)
        inner.append(
            f'<g class="c{colour(place)}" data-model="{escape(name)}"><polyline class="line" points="{path}"/>{dots}'
            f"<title>{escape(name)}: {percent(errors[-1])} at the last step</title></g>"
        )
    inner.append(_names({name: (place, y(errors[-1])) for name, (place, _, errors) in lines.items() if errors[-1] > 0}))
    svg = frame(
        x,
        y,
        x_title="denoising step",
        y_title="relative difference of the latents",
        x_text=lambda v: f"{v:g}" if v == int(v) else "",
        y_text=percent,
        inner="".join(inner),
        label="Relative difference of the latents from the original's by denoising step",
    )
    caption = "Mean over samples, estimated on 64 fixed entries of the latents; logarithmic."
    if lacking:
        caption += f" Not recorded: {escape(', '.join(lacking))}."
    return Piece(f'<figure class="card chart" data-plot="steps">{svg}<figcaption>{caption}</figcaption></figure>')


def _names(ends: dict[str, tuple[int, float]]) -> str:
    """Each name above the end of its line, moved down where it would lie on another."""
    parts, last = [], -100.0
    for name, (_, up) in sorted(ends.items(), key=lambda entry: entry[1][1]):
        last = max(up - 12, last + 15)
        parts.append(f'<text class="name end" x="{WIDTH - 26}" y="{last:.1f}">{escape(name)}</text>')
    return "".join(parts)
