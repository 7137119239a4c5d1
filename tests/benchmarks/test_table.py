"""Figures and the table, from made-up measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import ceilings, figures, results, table
from benchmarks.gpu.entries import Entry
from benchmarks.gpu.figures import matmul_bytes
from benchmarks.gpu.shapes import Shape
from tests.benchmarks.conftest import timed


def test_figures_follow_from_seconds(measured: dict[str, Any]) -> None:
    (shape,) = measured["shapes"]
    bf16, ours, rival, refused, *_ = shape["contestants"]
    assert measured["ceilings"]["matmul_per_second"] == {"bf16": 1e12, "int8": 4e12}
    assert (ours["tflops"], ours["ratio_to_bf16"], ours["of_best_matmul"]) == (2.0, 2.0, 0.5)
    assert (rival["ratio_to_bf16"], rival["of_best_matmul"]) == (4.0, 1.0)
    assert bf16["ratio_to_bf16"] == 1.0
    assert refused["tflops"] is refused["ratio_to_bf16"] is refused["of_copy"] is None
    assert ours["of_copy"] == pytest.approx((1e6 + 2e6 + 4 * 3000 + 4e6) / 0.002 / 1e10)
    (rows,) = measured["rows"]
    assert rows["contestants"][0]["bytes_per_second"] == pytest.approx(3.004e9)
    assert rows["contestants"][0]["of_copy"] == pytest.approx(0.3004)


def test_bytes_that_must_move() -> None:
    shape = Shape("m", "l", 10, 20, 30)
    assert matmul_bytes(shape, "bf16", "bare") == 2 * (300 + 600 + 200)
    assert matmul_bytes(shape, "int8", "bare") == 300 + 600 + 4 * 30 + 400
    assert matmul_bytes(shape, "fp8", "used") == 600 + 600 + 80 + 40 + 400
    even = Shape("m", "l", 10, 20, 256)
    kept, four = 20 * 128, 20 * (128 + 2 * 2)
    assert matmul_bytes(even, "2:4 bf16", "bare") == 2 * 2560 + 2 * kept + 640 + 400
    assert matmul_bytes(even, "2:4 int8", "bare") == 2560 + 40 + kept + 640 + 80 + 400
    assert matmul_bytes(even, "2:4 fp8", "used") == 2 * 2560 + kept + 640 + 80 + 40 + 400
    assert matmul_bytes(even, "w4a16", "bare") == 2 * 2560 + four + 400
    assert matmul_bytes(even, "w4a8", "bare") == 2560 + 40 + four + 400
    assert matmul_bytes(even, "w4afp8", "used") == 2 * 2560 + four + 40 + 400


def test_a_copy_leaves_room() -> None:
    assert ceilings.copy_bytes(80 * 2**30) == 2**31
    assert ceilings.copy_bytes(4 * 2**30 + 12345) == 2**30


def test_no_file_is_said_plainly(tmp_path: Path) -> None:
    assert table.section(tmp_path).startswith("No GPU has been measured yet")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gpu_x.json").write_text('{"format_version": 0}')
    with pytest.raises(ValueError, match="format_version 0"):
        table.section(tmp_path)


def test_the_table_shows_ratios_shares_and_reasons(tmp_path: Path, body: dict[str, Any]) -> None:
    results.path("Made-up GPU", tmp_path).write_text(json.dumps(body))
    text = table.section(tmp_path)
    assert "### Made-up GPU" in text
    assert "clocks before and after: unknown and 1000 MHz. A quick run." in text
    assert "commit no git" in text
    assert "- tests failed: 1 failed" in text
    assert "| layer | M | N | K | bf16 ms | quant a | rival | absent | broken |" in text
    row = "| Made up, ffn up | 1000 | 2000 | 1000 | 4.000 | 2.00x (50%) | 4.00x (100%) | refused (a) | failed (b) |"
    assert row in text
    assert "quant a, geometric mean: 0.50x of rival (1 shape)." in text
    assert "- (a) absent, INT8: refused: the package absent is not installed" in text
    assert "- (b) broken, INT8: failed: RuntimeError: a | b" in text
    assert "| Made up, ffn up | 1000 | 2000 | 1000 | 4.000 | refused (c) |" in text
    assert "- (c) quant b, FP8: refused: runs on sm_89, not on sm_90" in text
    assert "No kernel of quant was timed here." in text
    assert "| INT8 codes of x | 1000 | 1000 | 0.00 (30%) | skipped (d) |" in text
    assert "- Another: M 1: time was over" in text
    assert "- int8: PSNR to the CPU's at least 50.0 dB, 2 videos" in text


def test_goals_are_only_shown_where_their_kernels_were_tried(body: dict[str, Any]) -> None:
    assert "Goals" not in table.of_gpu(body)
    assert "2:4" not in table.of_gpu(body)


def test_sparse_kernels_stand_beside_the_dense_ones_of_their_format(body: dict[str, Any]) -> None:
    entries = [
        timed("torch bf16", "bf16", "bare", 0.004),
        timed("quant dense", "int8", "bare", 0.002),
        timed("rival", "int8", "bare", 0.0025),
        timed("quant sparse", "2:4 int8", "bare", 0.001),
        timed("rival 2:4", "2:4 int8", "bare", 0.0016),
        Entry("absent", "2:4 int8", "bare", "refused", "this torch has no cuSPARSELt"),
        timed("quant four", "w4a16", "bare", 0.005),
        timed("quant sparse floats", "2:4 bf16", "bare", 0.002),
    ]
    shape = Shape("Made up", "qkv", 8192, 2048, 1024)
    text = table.of_gpu({**body, **figures.body([(shape, entries)], [], 1e10, [])})
    heading = "| layer | M | N | K | bf16 ms | quant sparse | rival 2:4 | absent | dense: quant dense | dense: rival |"
    assert heading in text
    cells = "| 4.00x (100%) | 2.50x (62%) | refused (a) | 2.00x (100%) | 1.60x (80%) |"
    assert f"| Made up, qkv | 8192 | 2048 | 1024 | 4.000 {cells}" in text
    assert (
        "quant sparse, geometric mean: 1.60x of rival 2:4 (1 shape), 2.00x of dense quant dense (1 shape), "
        "2.50x of dense rival (1 shape)."
    ) in text
    assert "- (a) absent, 2:4 INT8: refused: this torch has no cuSPARSELt" in text
    assert "2:4 INT8 34 T/s" in text
    assert "With 2:4 the zeros are counted." in text
    assert (
        "| 2:4 INT8 | 1.35x of our own kernel of dense INT8, M >= 8192 | 2.00x to 2.00x, mean 2.00x | 1 | met |" in text
    )
    assert "| W4A16 | 0.95x of torch's bf16, M >= 4096 | 0.80x to 0.80x, mean 0.80x | 1 | missed |" in text
    assert "| W4A16 | 3.00x of torch's bf16, M <= 16 |  | 0 | not measured |" in text
    assert "**W4A16. Bare: the matmul of ready operands, with scales.**" in text


def test_reasons_are_lettered_beyond_z() -> None:
    assert [table._letters(index) for index in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]
