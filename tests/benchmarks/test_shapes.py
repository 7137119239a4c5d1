"""The shapes are those of the models, the telling ones first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.gpu.shapes import FILE, Shape, matmuls, rows


def test_every_model_has_its_four_layers() -> None:
    shapes = matmuls()
    assert len(shapes) == len(set(shapes)) == 1 + 7 * 4 + 3 * 4
    assert shapes[0] == Shape("square", "8192", 8192, 8192, 8192)
    wan = {shape.layer: shape for shape in shapes if shape.model == "Wan2.1 14B 480p 81f"}
    assert {layer: (shape.m, shape.n, shape.k) for layer, shape in wan.items()} == {
        "attention out": (32760, 5120, 5120),
        "qkv": (32760, 15360, 5120),
        "ffn up": (32760, 13824, 5120),
        "ffn down": (32760, 5120, 13824),
        "text": (512, 5120, 5120),
        "32 rows": (32, 5120, 5120),
        "16 rows": (16, 5120, 5120),
        "one row": (1, 5120, 5120),
    }
    assert {layer for layer, shape in wan.items() if shape.activation != "none"} == {"ffn up"}
    assert sum(shape.autotuned for shape in shapes) == 4
    assert wan["ffn up"].flops == 2 * 32760 * 13824 * 5120


def test_a_quick_run_takes_five_and_one_of_few_rows() -> None:
    assert len(matmuls(quick=True)) == 5
    assert min(shape.m for shape in matmuls(quick=True)) == 16
    assert set(matmuls(quick=True)) <= set(matmuls())
    assert set(rows(quick=True)) <= set(rows())


def test_a_name_there_is_not() -> None:
    body: dict[str, Any] = json.loads(FILE.read_text())
    body["quick"] = [["Wan", "nothing"]]
    with pytest.raises(ValueError, match="no shape is called"):
        matmuls(body=body)
