"""What each layer's quantization does to the prediction, as heat maps: layers by blocks, and by denoising step."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import quant
from quant.errors import QuantError
from quant.eval.drawing.markup import Piece, escape, note, swatch
from quant.eval.results.recorded import Recorded
from quant.text import printable

_CELL_W, _CELL_H, _LEFT, _TOP, _GAP = 46, 20, 190, 56, 46
#: How many of the most sensitive are shown by step.
_WORST = 12
#: Room for a letter of a name, and of the title.
_LETTER, _TITLE_LETTER = 6.6, 8.2
_LIGHT, _DEEP = (240, 244, 250), (140, 22, 60)
PAPER = "<rect width='100%' height='100%' fill='white'/>"
#: Stands in every picture.
CAPTION = "Change of the prediction when one part alone is quantized"
_FONT = "font-family='system-ui, sans-serif' font-size='11'"


def heat_maps(recorded: Recorded) -> Piece:
    """One picture for each candidate whose configuration names a sensitivity; says so where none does.

    Raises:
        QuantError: a recorded sensitivity is of a version that is not read here.
    """
    parts = []
    for model in recorded.candidates:
        body = model.get("sensitivity")
        if body is None:
            continue
        try:
            found = quant.Sensitivity.from_json(json.dumps(body))
        except (ValueError, TypeError, KeyError) as error:
            raise QuantError(
                f"{recorded.folder}: the sensitivity of {model['name']!r} cannot be read: {error}"
            ) from None
        parts.append(
            f'<figure class="card chart heat" data-plot="heat">'
            f"<figcaption>{swatch(recorded.place(model))}<b>{escape(model['name'])}</b>"
            f"<small>The stronger the colour, the more the prediction changes.</small></figcaption>"
            f'<div class="scroll" tabindex="0" role="region" aria-label="Sensitivity of layers">'
            f"{sensitivity_svg(found, themed=True)}</div></figure>"
        )
    if not parts:
        where = "name one under <code>sensitivity</code> in the run’s configuration"
        return Piece(note(f"No sensitivity was recorded; {where}."))
    return Piece("".join(parts))


def sensitivity_svg(found: quant.Sensitivity, *, themed: bool = False) -> str:
    """One SVG file. Darker is worse within a table, by the error's logarithm; the figure is the error itself.

    It is on white, and so alone looks the same everywhere. `themed` is for the page of a report: no ground, and
    classes instead of colours; of each cell `--strength`, 0 to 1, for its style sheet to mix a colour by.
    """
    longest = max((len(unit.name) for unit in found.units), default=0)
    draw = _Drawing(themed, max(_LEFT, 20 + math.ceil(_LETTER * longest)))
    title = printable(f"{found.recipe} on {found.model}")  # of a folder, whose name may be no text
    parts: list[str] = []
    bottom, right = _TOP + 10, draw.left
    for component in dict.fromkeys(unit.component for unit in found.units):
        rows, columns, cells = _by_block([unit for unit in found.units if unit.component == component])
        parts.append(draw.grid(f"{component}: by block", bottom, rows, columns, cells))
        bottom += _TOP // 2 + _CELL_H * len(rows) + _GAP
        right = max(right, draw.left + _CELL_W * len(columns))
    worst = found.ranked[:_WORST]
    steps = [f"{step + 1}" for step in found.steps]
    values = {(i, j): value for i, unit in enumerate(worst) for j, value in enumerate(unit.by_step)}
    parts.append(draw.grid("the most sensitive, by denoising step", bottom, [u.name for u in worst], steps, values))
    bottom += _TOP // 2 + _CELL_H * len(worst) + _GAP
    right = max(right, draw.left + _CELL_W * len(steps), 460, 12 + math.ceil(_TITLE_LETTER * len(title)))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{right + 20}' height='{bottom}' {_FONT}>"
        f"{'' if themed else PAPER}"
        f"<text x='12' y='24' font-size='14' font-weight='600'>{escape(title)}</text>"
        f"<text x='12' y='42' {draw.soft}>{CAPTION}</text>"
        f"{''.join(parts)}</svg>\n"
    )


def _by_block(units: Sequence[quant.SensitivityUnit]) -> tuple[list[str], list[str], dict[tuple[int, int], float]]:
    """Row names, column names and values: a layer of all blocks is a row, a block a column."""
    rows: list[str] = []
    columns: list[str] = []
    cells: dict[tuple[int, int], float] = {}
    for unit in units:
        place = re.search(r"\.(\d+)(\.|$)", unit.name)
        row = unit.name if place is None else unit.name[: place.start()] + ".*" + unit.name[place.end(1) :]
        column = "" if place is None else place.group(1)
        rows += [row] if row not in rows else []
        columns += [column] if column not in columns else []
        cells[rows.index(row), columns.index(column)] = unit.error
    return rows, columns, cells


@dataclass(frozen=True)
class _Drawing:
    """How a table is drawn: `left` is the room for the names of its rows."""

    themed: bool
    left: int

    @property
    def soft(self) -> str:
        return "class='soft'" if self.themed else "fill='#555'"

    def grid(
        self,
        title: str,
        top: int,
        rows: Sequence[str],
        columns: Sequence[str],
        cells: Mapping[tuple[int, int], float],
    ) -> str:
        y = top + _TOP // 2
        shade = _shades(list(cells.values()))
        parts = [f"<text x='12' y='{top + 4}' font-weight='600'>{escape(title)}</text>"]
        for j, name in enumerate(columns):
            x = self.left + j * _CELL_W + _CELL_W / 2
            parts.append(f"<text x='{x}' y='{y - 5}' text-anchor='middle' {self.soft}>{escape(name)}</text>")
        for i, name in enumerate(rows):
            parts.append(
                f"<text x='{self.left - 8}' y='{y + i * _CELL_H + 14}' text-anchor='end'>{escape(name)}</text>"
            )
        for (i, j), value in cells.items():
            parts.append(self._cell(self.left + j * _CELL_W, y + i * _CELL_H, value, shade(value)))
        return "".join(parts)

    def _cell(self, x: int, y: int, value: float, dark: float) -> str:
        deep = dark > 0.55
        if self.themed:
            paint, ink = f"class='cell' style='--strength:{dark:.3f}'", f"class='{'on-deep' if deep else 'on-light'}'"
        else:
            mixed = (round(low + (high - low) * dark) for low, high in zip(_LIGHT, _DEEP, strict=True))
            paint, ink = f"fill='rgb({','.join(map(str, mixed))})'", f"fill='{'white' if deep else '#222'}'"
        return (
            f"<rect x='{x}' y='{y}' width='{_CELL_W - 1}' height='{_CELL_H - 1}' {paint}/>"
            f"<text x='{x + _CELL_W / 2 - 0.5}' y='{y + 14}' text-anchor='middle' {ink} font-size='10'>"
            f"{percent(value)}</text>"
        )


def percent(value: float) -> str:
    """Two figures that count: 0.0123 -> "1.2%", 0.00012 -> "0.012%"."""
    if value == 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(value * 100)))
    return f"{value * 100:.{digits}f}%"


def _shades(values: Sequence[float]) -> Callable[[float], float]:
    """A value's place between the smallest and the largest, 0 to 1, by its logarithm."""
    positive = [value for value in values if value > 0]
    if not positive or min(positive) == max(positive):
        return lambda value: 0.5 if value > 0 else 0.0
    low, high = math.log(min(positive)), math.log(max(positive))
    return lambda value: 0.0 if value <= 0 else min(max((math.log(value) - low) / (high - low), 0.0), 1.0)
