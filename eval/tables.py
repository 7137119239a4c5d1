"""Tables as text for a terminal and as Markdown, and how figures are written in them."""

import math
import re
from dataclasses import dataclass

from quant.text import printable


@dataclass(frozen=True)
class Table:
    """Headings, and rows of as many cells. The first `words` columns are words, the others figures."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 2


def as_text(shown: Table, width: int | None = None) -> str:
    """Aligned columns, two spaces apart, a rule under the headings.

    What is wider than `width` becomes several tables below each other, each with the first column.
    """
    lines = [tuple(printable(cell) for cell in line) for line in (shown.headings, *shown.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown.headings))]
    parts: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[each] + 2 for each in parts[-1])
        if width is not None and len(parts[-1]) > 1 and taken + widths[column] > width:
            parts.append([0])
        parts[-1].append(column)
    return "\n\n".join(_text(lines, widths, columns, shown.words) for columns in parts)


def _text(lines: list[tuple[str, ...]], widths: list[int], columns: list[int], words: int) -> str:
    text = []
    for line in lines:
        cells = [line[at].ljust(widths[at]) if at < words else line[at].rjust(widths[at]) for at in columns]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(len(line) for line in text))
    return "\n".join(text)


def as_markdown(shown: Table) -> str:
    """The table as GitHub draws it, figures aligned to the right."""
    rule = ["---" if column < shown.words else "---:" for column in range(len(shown.headings))]
    rows = ([_one_line(cell) for cell in row] for row in shown.rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (shown.headings, rule, *rows))


def code(text: str) -> str:
    """A text as Markdown shows code, whatever is in it: nothing of it is markup, and it stays in its line."""
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence, room = "`" * (longest + 1), " " if "`" in text else ""
    return f"{fence}{room}{text}{room}{fence}"


def plain(text: str) -> str:
    """A text as Markdown shows it letter by letter: nothing of it is markup, a link or HTML."""
    # An address is made a link without any markup, unless its colon, its @ or the dot after www is an entity.
    return re.sub(
        r"[\\`*\[\]<>#|~@&$]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.", _escaped, printable(text), flags=re.IGNORECASE
    )


def _escaped(found: re.Match[str]) -> str:
    letter = found[0]
    return f"&#{ord(letter)};" if letter in "<>&:@." else f"\\{letter}"


def _one_line(cell: str) -> str:
    """A cell in which nothing ends it: a bar, even in code, would."""
    return re.sub(r"(?<!\\)\|", r"\\|", printable(cell))


def decibels(value: float) -> str:
    """A PSNR with one decimal; `identical` where it is infinite."""
    return "identical" if math.isinf(value) else f"{value:.1f}"


def megabytes(count: int) -> str:
    """Bytes as decimal megabytes."""
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:,.0f} MB"
