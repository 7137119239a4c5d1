"""The demo on a tiny pipeline: one page, results that read back, and checkpoints beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import quant
from quant.cli import main
from quant.eval.demo import RECIPES
from quant.eval.results import read_results
from quant.eval.shapes.example import shapes_example
from tests.tiny_pipeline import save_pipeline


def test_the_demo_end_to_end(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "model")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\na blue bird\nsnow\n")
    ran = CliRunner().invoke(
        main,
        [
            *("demo", "--model", str(model), "--prompts", str(prompts), "--calibration", str(prompts)),
            *("--clips", "2", "--out", str(tmp_path / "demo")),
        ],
    )
    assert ran.exit_code == 0, ran.stderr
    assert "reference arithmetic on a CPU: not a kernel's time" in ran.stdout
    assert f"open {tmp_path / 'demo' / 'index.html'}" in ran.stdout
    results = read_results(tmp_path / "demo" / "results.json")
    assert [sample.prompt for sample in results.samples] == ["a red fox", "a blue bird"]
    assert [candidate.name for candidate in results.candidates] == list(RECIPES)
    for candidate in results.candidates:
        folder = tmp_path / "demo" / candidate.name
        assert candidate.stored_bytes == quant.inspect(folder).components[0].nbytes
        assert min(candidate.psnr) > 20
    assert results.calibration_prompts == 3  # all there are; SAMPLES at most
    assert "calibrated on 3 other prompts" in ran.stdout
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("<canvas") == 2 * (1 + 2 * 5)


def test_an_installation_without_the_repository_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quant, "__file__", str(tmp_path / "quant" / "__init__.py"))
    with pytest.raises(quant.QuantError, match="give --model, --prompts and --calibration"):
        shapes_example()
