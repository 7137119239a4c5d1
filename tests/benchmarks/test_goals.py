"""Goals are compared with what was measured, and nothing is said to be met that was not."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gpu import figures, goals
from benchmarks.gpu.entries import Entry
from benchmarks.gpu.goals import GOALS, Goal, reached
from benchmarks.gpu.shapes import Shape, matmuls
from benchmarks.gpu.weights import four_bits_of_bf16
from benchmarks.readme import GPU_README
from tests.benchmarks.conftest import timed

SIZES = {"many": 8192, "some": 4096, "few": 16, "more": 32}


def shapes(**entries: list[Entry]) -> list[dict[str, Any]]:
    """Made-up measurements, by how many rows."""
    given = [(Shape("Made up", name, SIZES[name], 1024, 1024), each) for name, each in entries.items()]
    found: list[dict[str, Any]] = figures.body(given, [], 1e10, [])["shapes"]
    return found


def goal(format_name: str, of: str, against: str = "") -> Goal:
    return next(each for each in GOALS if (each.format_name, each.of) == (format_name, of) and against in each.says)


def test_the_goals_are_those_that_were_set() -> None:
    assert [(each.format_name, each.least, each.says) for each in GOALS] == [
        ("2:4 int8", 1.35, "our own kernel of dense INT8, M >= 8192"),
        ("2:4 int8", 1.35, "the best of a library of dense INT8, M >= 8192"),
        ("2:4 fp8", 1.35, "our own kernel of dense FP8, M >= 8192"),
        ("2:4 fp8", 1.35, "the best of a library of dense FP8, M >= 8192"),
        ("2:4 bf16", 1.35, "the best of a library of dense bf16, M >= 8192"),
        ("w4a16", 0.95, "torch's bf16, M >= 4096"),
        ("w4a16", 3.0, "torch's bf16, M <= 16"),
        ("w4a8", 1.3, "torch's bf16, M >= 4096"),
    ]


def test_the_best_of_ours_stands_against_the_best_of_each() -> None:
    measured = shapes(
        many=[
            timed("quant dense a", "int8", "bare", 3.0),
            timed("quant dense b", "int8", "bare", 4.0),
            timed("library a", "int8", "bare", 2.5),
            timed("library b", "int8", "bare", 9.0),
            timed("library a", "int8", "used", 0.1),
            timed("quant sparse a", "2:4 int8", "bare", 2.0),
            timed("quant sparse b", "2:4 int8", "bare", 8.0),
            timed("library sparse", "2:4 int8", "bare", 0.5),
        ]
    )
    assert reached(goal("2:4 int8", "int8", "own"), measured) == [1.5]
    assert reached(goal("2:4 int8", "int8", "library"), measured) == [1.25]
    assert reached(goal("2:4 fp8", "fp8", "own"), measured) == []


def test_only_shapes_of_so_many_rows_count() -> None:
    entries = [timed("torch bf16", "bf16", "bare", 1.0), timed("quant w", "w4a16", "bare", 0.25)]
    measured = shapes(many=entries, some=entries, few=entries, more=entries)
    many, few = (each for each in GOALS if each.format_name == "w4a16")
    assert reached(many, measured) == [4.0, 4.0]
    assert reached(few, measured) == [4.0]


def test_a_kernel_that_was_wrong_reaches_nothing() -> None:
    wrong = Entry("quant w", "w4a8", "bare", "wrong", "off")
    assert reached(goal("w4a8", "bf16"), shapes(many=[timed("torch bf16", "bf16", "bare", 1.0), wrong])) == []


def test_verdicts() -> None:
    base = timed("torch bf16", "bf16", "bare", 1.0)
    measured = shapes(
        many=[base, timed("quant w", "w4a16", "bare", 1.0), timed("quant v", "w4a8", "bare", 0.9)],
        some=[base, timed("quant w", "w4a16", "bare", 2.0), timed("quant v", "w4a8", "bare", 0.8)],
        few=[base, timed("quant w", "w4a16", "bare", 0.25)],
    )
    rows = {(format_name, aim): rest for format_name, aim, *rest in goals.rows(measured)}
    assert rows["W4A16", "0.95x of torch's bf16, M >= 4096"] == ["0.50x to 1.00x, mean 0.71x", "2", "met on 1"]
    assert rows["W4A16", "3.00x of torch's bf16, M <= 16"] == ["4.00x to 4.00x, mean 4.00x", "1", "met"]
    assert rows["W4A8", "1.30x of torch's bf16, M >= 4096"] == ["1.11x to 1.25x, mean 1.18x", "2", "missed"]
    assert rows["2:4 FP8", "1.35x of our own kernel of dense FP8, M >= 8192"] == ["", "0", "not measured"]
    share = f"at most {four_bits_of_bf16(1024, 1024):.3f}x, counted and not measured"
    assert rows["INT4", "weight memory of at most 0.30x of bf16"] == [share, "3", "met"]


def test_of_nothing_nothing_is_said() -> None:
    assert {row[2:] for row in goals.rows([])} == {("", "0", "not measured")}


@pytest.mark.parametrize("shape", matmuls(), ids=str)
def test_four_bits_take_less_than_the_goal_on_every_shape(shape: Shape) -> None:
    share = four_bits_of_bf16(shape.n, shape.k)
    assert 0.25 < share <= goals.MEMORY
    assert f"{share:.3f} on every shape here" in GPU_README.read_text(encoding="utf-8")
