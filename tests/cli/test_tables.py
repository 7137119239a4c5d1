"""How layers are merged into lines."""

from pathlib import Path

import pytest

from quant.api.inspect import Component, Inspection, Layer
from quant.cli.tables import component_table, provenance_lines, ranges


@pytest.mark.parametrize(
    ("indexes", "text"),
    [([3], "3"), ([0, 1, 2], "{0-2}"), ([5, 0, 1], "{0-1,5}"), ([0, 2, 4], "{0,2,4}")],
)
def test_ranges(indexes: list[int], text: str) -> None:
    assert ranges(indexes) == text


def _layer(name: str, scheme: str | None, reason: str = "", alpha: float | None = None) -> Layer:
    return Layer(name, (8, 4), scheme, reason, 8.5, 34, 0.01 if scheme else None, alpha)


def test_a_table() -> None:
    layers = (
        _layer("embed", None, "outside"),
        _layer("blocks.0.q", "W8A8", alpha=0.5),
        _layer("blocks.1.q", "W8A8", alpha=0.25),
        _layer("blocks.2.q", None, "edge block 2 of 3 (keep_edge_blocks)"),
    )
    component = Component("transformer", "quant", "int-quantized", layers, 136, 272)
    merged = component_table(component).splitlines()
    assert [line.split() for line in merged[:2]] == [
        ["transformer", "shape", "scheme", "layers", "bits/weight", "bytes", "weight", "error", "alpha"],
        ["embed", "8x4", "kept", "1", "8.50", "34", "outside"],
    ]
    assert merged[2].split() == ["blocks.{0-1}.q", "8x4", "W8A8", "2", "8.50", "68", "1.00%", "0.25-0.5"]
    assert "an edge block of 3" in merged[3]
    assert merged[-1].startswith("2 of 4 layers quantized; 136 bytes, 2.00x smaller than bf16")
    every = component_table(component, every_layer=True)
    assert all(layer.name in every for layer in layers)


def test_names_and_provenance_move_no_cursor() -> None:
    """Everything in a table and below it is out of files that anyone may have made."""
    evil = "a\x1b[31m\nb\u202ec"
    layers = (_layer(evil, None, evil), _layer("blocks.0.q", "W8A8"))
    made = {"recipe": {"name": evil}, "model": evil, "versions": {evil: evil}}
    component = Component(evil, "quant", evil, layers, 136, 272)
    for text in (component_table(component), provenance_lines(Inspection(Path("x"), (component,), made, True))):
        assert all(line.isprintable() for line in text.split("\n"))
        assert r"a\x1b[31m\nb\u202ec" in text
