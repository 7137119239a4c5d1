"""Small pieces of HTML that every section of the report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

__all__ = [
    "Piece",
    "chip",
    "colour",
    "definitions",
    "escape",
    "mark",
    "note",
    "side_by_side",
    "styles",
    "swatch",
    "table",
]

#: Marks and words go with colours: a verdict is read without seeing colour.
_VERDICTS = {
    "pass": ("pass", "✓"),
    "fail": ("fail", "✗"),
    "not enough samples": ("unsure", "?"),
    "failed": ("fail", "✗"),
    "better": ("pass", "▲"),
    "tie": ("unsure", "="),
    "worse": ("fail", "▼"),
}
#: In a narrow column.
_SHORT = {"not enough samples": "too few"}
#: Candidates have colours 1..8 in turn.
COLOURS = 8


@dataclass(frozen=True)
class Piece:
    """HTML that a notebook shows as it is."""

    html: str

    def _repr_html_(self) -> str:
        return f'<div class="qr">{self.html}</div>'


def side_by_side(*pieces: Piece) -> Piece:
    """Pieces side by side, below each other where there is no room."""
    return Piece(f'<div class="charts">{"".join(piece.html for piece in pieces)}</div>')


def styles() -> Piece:
    """The look of all pieces: one style sheet, which asks for no file and no font."""
    text = resources.files("quant.eval.drawing").joinpath("report.css").read_text(encoding="utf-8")
    return Piece(f"<style>{text}</style>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, label: str = "") -> str:
    """A table that scrolls on a narrow screen. Cells are HTML; the first `words` columns are set to the left."""

    def sided(column: int) -> str:
        return ' class="word"' if column < words else ""

    top = "".join(f'<th scope="col"{sided(column)}>{cell}</th>' for column, cell in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row" class="word">{cell}</th>' if column == 0 else f"<td{sided(column)}>{cell}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="card scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def definitions(entries: Mapping[str, str]) -> str:
    """Terms and their meanings; the values are HTML."""
    inner = "".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in entries.items())
    return f'<dl class="card">{inner}</dl>'


def chip(verdict: str, text: str = "", *, short: bool = False) -> str:
    """A verdict in colour, with its mark and in words; `text` stands before it.

    Where `short`, a long verdict is shown in fewer words; a screen reader and the tooltip still have all of them.
    """
    css, sign = _VERDICTS[verdict]
    before = f"<span>{escape(text)}</span> " if text else ""
    words, title = escape(verdict), ""
    if short and verdict in _SHORT:
        title = f' title="{escape(f"{text}: {verdict}" if text else verdict)}"'
        words = f'<span class="unseen">{words}</span><b aria-hidden="true">{_SHORT[verdict]}</b>'
    return f'<span class="chip {css}"{title}>{before}<i aria-hidden="true">{sign}</i> {words}</span>'


def note(text: str) -> str:
    """A paragraph in small type; HTML."""
    return f'<p class="note">{text}</p>'


def swatch(place: int) -> str:
    """The mark by which plots show a model: its colour and its shape."""
    return (
        f'<svg class="swatch c{colour(place)}" viewBox="-8 -8 16 16" aria-hidden="true">{mark(place, 0, 0, 5.5)}</svg>'
    )


def colour(place: int) -> int:
    """The number of a model's colour; 0 is the original."""
    return 0 if place == 0 else 1 + (place - 1) % COLOURS


def mark(place: int, x: float, y: float, r: float, css: str = "mark") -> str:
    """A circle, square, diamond or triangle in turn, of about the same area as a circle of radius `r`."""
    at = f'class="{css}"'
    shape = 0 if place == 0 else (place - 1) % 4
    if shape == 0:
        return f'<circle {at} cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
    if shape == 1:
        a = r * 0.89
        return f'<rect {at} x="{x - a:.1f}" y="{y - a:.1f}" width="{2 * a:.1f}" height="{2 * a:.1f}" rx="1.5"/>'
    if shape == 2:
        d = r * 1.25
        points = [(x, y - d), (x + d, y), (x, y + d), (x - d, y)]
    else:
        d = r * 1.35
        points = [(x, y - d), (x + d * 0.95, y + d * 0.65), (x - d * 0.95, y + d * 0.65)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polygon {at} points="{path}"/>'
