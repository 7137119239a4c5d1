"""The matmuls and rows to measure: those of video diffusion transformers, from shapes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FORMAT_VERSION = 1
FILE = Path(__file__).parent / "shapes.json"


class Shape(NamedTuple):
    """out [m, n] = x [m, k] weight [n, k]^T.

    Attributes:
        model: whose layer it is.
        layer: which one.
        m, n, k: tokens of one sample, output features, input features.
        activation: what follows in the model: "none" or "gelu_tanh".
        autotuned: is `torch.compile(mode="max-autotune...")` tried on it, which takes long?
    """

    model: str
    layer: str
    m: int
    n: int
    k: int
    activation: str = "none"
    autotuned: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions of the matmul alone."""
        return 2 * self.m * self.n * self.k

    def __str__(self) -> str:
        return f"{self.model}, {self.layer}: M {self.m} N {self.n} K {self.k}"


class Rows(NamedTuple):
    """x [m, k] to be quantized by rows; `compiled` says whether torch.compile is tried on it."""

    m: int
    k: int
    compiled: bool


def matmuls(*, quick: bool = False, body: Mapping[str, Any] | None = None) -> list[Shape]:
    """What to measure, the most telling first, since time may run out.

    Args:
        quick: only the few that the file names for a quick run.
        body: the file's content; None reads it.

    Raises:
        ValueError: a file of another version, or one that names a shape it has not.
    """
    body = _read() if body is None else body
    autotuned = {tuple(pair) for pair in body["autotuned"]}
    side = body["square"]
    shapes = [Shape("square", str(side), side, side, side)]
    for model in body["models"]:
        name, m, d, ff = (model[key] for key in ("name", "m", "d", "ff"))
        shapes += [
            Shape(name, "attention out", m, d, d),
            Shape(name, "qkv", m, 3 * d, d),
            Shape(name, "ffn up", m, ff, d, "gelu_tanh"),
            Shape(name, "ffn down", m, d, ff),
        ]
        if name in body["few_rows_of"]:
            shapes += [Shape(name, layer, rows, d, d) for layer, rows in body["few_rows"].items()]
    shapes = [shape._replace(autotuned=(shape.model, shape.layer) in autotuned) for shape in shapes]
    by_name = {(shape.model, shape.layer): shape for shape in shapes}
    chosen = [tuple(pair) for pair in body["quick"]]
    unknown = [pair for pair in (*chosen, *autotuned) if pair not in by_name]
    if unknown:
        raise ValueError(f"{FILE.name}: no shape is called {unknown[0]}")
    return [by_name[model, layer] for model, layer in chosen] if quick else shapes


def rows(*, quick: bool = False, body: Mapping[str, Any] | None = None) -> list[Rows]:
    """What to quantize by rows; arguments as of `matmuls`."""
    body = _read() if body is None else body
    compiled = {tuple(size) for size in body["compiled_rows"]}
    return [Rows(m, k, (m, k) in compiled) for m, k in body["quick_rows" if quick else "rows"]]


def _read() -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    if body["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{FILE.name}: format_version {body['format_version']} cannot be read, only {FORMAT_VERSION}")
    return body
