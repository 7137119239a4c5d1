"""`quant eval` on a tiny pipeline, as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import quant
from quant.cli import main
from quant.eval.runs.schema import read_results
from tests.tiny_pipeline import save_pipeline


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "model")
    quant.calibrate(folder / "model", "fp8-dynamic", folder / "fp8", full=True)
    (folder / "prompts.txt").write_text("a red fox\n\nsnow\na blue bird\n")
    (folder / "c.yaml").write_text(
        "model: ./model\ncandidates: [./fp8]\nprompts: prompts.txt\nsamples: 2\nspeed: false\n"
        "device: cpu\nmetrics: {lpips: [], fvd: []}\n"
    )
    return folder


def test_run_resume_and_compare(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.eval.report.notebook.render", lambda folder: folder / "report.html")
    ran = CliRunner().invoke(main, ["eval", "run", str(models / "c.yaml"), "--out", str(tmp_path), "--quiet"])
    assert ran.exit_code == 0, ran.output
    (folder,) = tmp_path.iterdir()
    assert "PSNR dB" in ran.stdout and f"results  {folder / 'results.json'}" in ran.stdout
    assert len(read_results(folder)["samples"]) == 2
    assert (folder / "config.yaml").read_text() == (models / "c.yaml").read_text()
    again = CliRunner().invoke(main, ["eval", "resume", str(folder), "--quiet"])
    assert again.exit_code == 0, again.output
    assert again.stdout == ran.stdout
    compared = CliRunner().invoke(main, ["eval", "compare", str(folder), str(folder / "results.json")])
    assert compared.exit_code == 0, compared.output
    line = next(line for line in compared.stdout.splitlines() if " ssim " in line)
    assert line.split()[-3:] == ["+0", "[+0,", "+0]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "give MODEL, one CANDIDATE or more, and --prompts FILE"),
        (["c.yaml", "--samples", "3"], "says all there is to do; move option 'samples' into it"),
        (["model", "fp8", "--prompts", "none.txt"], "none.txt: "),
    ],
)
def test_mistakes(models: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(models)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ran = CliRunner().invoke(main, ["eval", "run", *arguments, "--quiet"])
    assert (ran.exit_code, message in ran.stderr) == (2, True), ran.output
