"""The figures that follow from measured seconds: rates, ratios, and shares of the ceilings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.ceilings import best_matmul
from benchmarks.gpu.contestants import BASELINE, FORMATS
from benchmarks.gpu.entries import Entry
from benchmarks.gpu.rows import moved_bytes
from benchmarks.gpu.shapes import Rows, Shape
from benchmarks.gpu.weights import bytes_of


def matmul_bytes(shape: Shape, format_name: str, mode: str) -> int:
    """The fewest bytes a call moves: x or its codes, the weight, scales, bias and the bf16 result, each once."""
    _, x, weight = FORMATS[format_name]
    codes = mode == "bare" and x != "bf16"
    given = shape.m * (shape.k + 4 if codes else 2 * shape.k)
    bias = 2 * shape.n if mode == "used" else 0
    return given + bytes_of(x, weight, shape.n, shape.k) + bias + 2 * shape.m * shape.n


def body(
    matmuls: Sequence[tuple[Shape, Sequence[Entry]]],
    rows: Sequence[tuple[Rows, Sequence[Entry]]],
    copy_rate: float,
    skipped: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Everything measured as plain data for JSON.

    Args:
        matmuls: each shape with its entries.
        rows: each size with its entries.
        copy_rate: bytes read and written a second.
        skipped: shapes that were not reached, each with the reason.
    """
    shapes = [{**_size(shape), "contestants": [each.to_dict() for each in entries]} for shape, entries in matmuls]
    best = best_matmul(shapes)
    for (shape, _), filled in zip(matmuls, shapes, strict=True):
        _add_matmul_figures(shape, filled["contestants"], best, copy_rate)
    sizes = []
    for size, entries in rows:
        contestants = [each.to_dict() for each in entries]
        for entry in contestants:
            rate = None if entry["seconds"] is None else moved_bytes(size, entry["mode"]) / entry["seconds"]["median"]
            entry["bytes_per_second"] = rate
            entry["of_copy"] = None if rate is None else rate / copy_rate
        sizes.append({"m": size.m, "k": size.k, "contestants": contestants})
    return {
        "ceilings": {"copy_bytes_per_second": copy_rate, "matmul_per_second": best},
        "shapes": shapes,
        "rows": sizes,
        "skipped": [{"shape": shape, "reason": reason} for shape, reason in skipped],
    }


def _size(shape: Shape) -> dict[str, Any]:
    return {key: value for key, value in shape._asdict().items() if key != "autotuned"}


def _add_matmul_figures(
    shape: Shape, contestants: Sequence[dict[str, Any]], best: Mapping[str, float], copy_rate: float
) -> None:
    """Ratios are to torch's bf16 layer of the same mode: 2 means half its time."""
    baseline = {
        entry["mode"]: entry["seconds"]["median"]
        for entry in contestants
        if entry["name"] == BASELINE and entry["seconds"] is not None
    }
    for entry in contestants:
        seconds = None if entry["seconds"] is None else entry["seconds"]["median"]
        base = baseline.get(entry["mode"])
        moved = matmul_bytes(shape, entry["format"], entry["mode"])
        entry["tflops"] = None if seconds is None else shape.flops / seconds / 1e12
        entry["ratio_to_bf16"] = None if seconds is None or base is None else base / seconds
        entry["of_best_matmul"] = None if seconds is None else shape.flops / seconds / best[entry["format"]]
        entry["of_copy"] = None if seconds is None else moved / seconds / copy_rate
