"""What a reader sees of pieces: their words, their tables' cells, and what a browser makes of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from quant.eval.drawing.markup import Piece, styles


def words(html: str) -> str:
    """The text without tags, spaces made one, none before a comma or a full stop."""
    return re.sub(" ([,.;])", r"\1", " ".join(unescape(re.sub("<[^>]+>", " ", html)).split()))


def rows(html: str, label: str) -> list[list[str]]:
    """The cells of the table with this label, the head first."""
    table = re.search(f'aria-label="{label}">(<table.*?</table>)', html)
    assert table is not None, label
    found = re.findall("<tr[^>]*>(.*?)</tr>", table[1])
    return [[words(cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in found]


def plot(html: str) -> ElementTree.Element:
    """The first picture that is no mark of a model."""
    found = re.search(r"<svg (?!class=\"swatch)(?:.(?!</svg>))*.</svg>", html, re.S)
    assert found is not None
    return ElementTree.fromstring(found[0])


def page(*pieces: Piece) -> str:
    """A whole page with the report's look and width."""
    inner = "".join(piece._repr_html_() for piece in (styles(), *pieces))
    main = f'<main style="max-width: 1160px; margin: 0 auto; padding: 48px 24px">{inner}</main>'
    return f'<!doctype html><html><meta charset="utf-8"><body class="report" style="margin: 0">{main}</body></html>'


def browsed(html: str, probe: str, folder: Path, *, width: int = 1280, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """What `probe`, a script that fills `document.documentElement.dataset.seen` with JSON, has seen of the page.

    Skips the test where there is no chromium.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed: what a browser makes of the page is not checked")
    digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    html = html.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)  # where the page has a policy
    (folder / "page.html").write_text(html.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
        *("--autoplay-policy=no-user-gesture-required", f"--window-size={width},1000"),
        *("--virtual-time-budget=60000", *options, "--dump-dom", (folder / "page.html").as_uri()),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<html[^>]* data-seen="([^"]*)"', ran.stdout)
    assert found is not None, ran.stderr[-2000:]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen
