"""`quant eval` on a tiny pipeline, as typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import quant
from quant.cli import main
from quant.cli.progress import StepBars
from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig, SpeedSettings
from quant.eval.results.schema import read_results
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
    assert line.split()[-9:] == ["+0", "[+0,", "+0]", "0", "of", "2", "not", "enough", "samples"]
    alone = CliRunner().invoke(main, ["eval", "compare", str(folder)])
    assert alone.exit_code == 2 and "fewer than two candidates were scored" in alone.stderr


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> EvaluationConfig:
    """The configuration that a command line stands for."""
    found = []

    def keep(config: EvaluationConfig, *given: Any, **named: Any) -> None:
        found.append(config)
        raise QuantError("only asked")

    monkeypatch.setattr("quant.eval.runs.running.run_evaluation", keep)
    ran = CliRunner().invoke(main, ["eval", "run", *arguments, "--quiet"])
    assert "only asked" in ran.stderr, ran.output
    return found[0]


def test_options_and_what_is_not_given(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = [str(models / "model"), str(models / "fp8"), "--prompts", str(models / "prompts.txt")]
    plain = asked(monkeypatch, *common)
    assert (plain.seeds, plain.speed, plain.samples) == ((0,), SpeedSettings(), None)
    given = asked(monkeypatch, *common, "--seed", "7", "--samples", "2", "--no-speed")
    assert (given.seeds, given.speed, given.samples) == ((7,), None, 2)
    timed = asked(monkeypatch, *common, "--rounds", "3", "--compile")
    assert timed.speed == SpeedSettings(3, compile=True)


def test_a_configuration_file_may_end_in_yml(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = shutil.copyfile(models / "c.yaml", models / "c.yml")
    assert asked(monkeypatch, str(short)) == asked(monkeypatch, str(models / "c.yaml"))


def test_of_several_processes_only_the_first_speaks(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Recorded(StepBars):
        def show(self, what: str, done: int, total: int) -> None:
            shown.append(what)

    def play(config: EvaluationConfig, out: Path, *, progress: Any, **named: Any) -> Path:
        progress("original", 1, 2)
        return out

    monkeypatch.setattr("quant.cli.eval.run.StepBars", Recorded)
    monkeypatch.setattr("quant.eval.runs.running.run_evaluation", play)
    command = ["eval", "run", str(models / "c.yaml"), "--out", str(tmp_path)]
    monkeypatch.setenv("RANK", "1")
    second = CliRunner().invoke(main, command)
    assert (second.exit_code, second.output, shown) == (0, "", [])
    monkeypatch.setenv("RANK", "0")
    first = CliRunner().invoke(main, command)
    assert shown == ["original"]
    assert first.exit_code != 0  # it looks for results, which the played run has not made


def test_who_stops_a_run_is_told_how_it_goes_on(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quant.eval.runs.running.make_videos", stopped)
    ran = CliRunner().invoke(main, ["eval", "run", str(models / "c.yaml"), "--out", str(tmp_path)])
    assert ran.exit_code == 130
    assert "stopped: the same command goes on after the last finished video" in ran.stderr


def test_vbench_rates_every_model(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VBench itself is played: what is given to it, and what is made of its scores."""
    monkeypatch.setattr("quant.eval.report.notebook.render", lambda folder: folder / "report.html")
    ran = CliRunner().invoke(main, ["eval", "run", str(models / "c.yaml"), "--out", str(tmp_path), "--quiet"])
    assert ran.exit_code == 0, ran.output
    (folder,) = tmp_path.iterdir()
    asked = []

    def play(videos: Path, samples: list[str], **options: Any) -> dict[str, Any]:
        assert all((videos / f"{sample}.mp4").is_file() for sample in samples)
        asked.append((videos.name, len(samples), options["dimensions"]))
        return {"dynamic_degree": {"score": 0.25 * len(asked), "videos": dict.fromkeys(samples, 0.5)}}

    monkeypatch.setattr("quant.eval.metrics.vbench.run_vbench", play)
    rated = CliRunner().invoke(main, ["eval", "vbench", str(folder), "--dimension", "dynamic_degree"])
    assert rated.exit_code == 0, rated.output
    assert asked == [("original", 2, ("dynamic_degree",)), ("fp8", 2, ("dynamic_degree",))]
    assert [line.split()[-1] for line in rated.stdout.splitlines()[1:3]] == ["0.2500", "0.5000"]
    assert json.loads((folder / "vbench.json").read_text())["fp8"]["dynamic_degree"]["score"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "give MODEL, one CANDIDATE or more, and --prompts FILE"),
        (["c.yaml", "--samples", "3"], "says all there is to do; move option 'samples' into it"),
        (["c.yaml", "--seed", "0"], "move option 'seed' into it"),
        (["model", "fp8", "--prompts", "prompts.txt", "--no-speed", "--rounds", "3"], "--rounds says how to time"),
        (["model", "fp8", "--prompts", "none.txt"], "none.txt: no such file or folder of prompts"),
    ],
)
def test_mistakes(models: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(models)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ran = CliRunner().invoke(main, ["eval", "run", *arguments, "--quiet"])
    assert (ran.exit_code, message in ran.stderr) == (2, True), ran.output


def test_a_candidate_that_fails_is_the_last_line_and_the_status(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.eval.report.notebook.render", lambda folder: folder / "report.html")
    bad = shutil.copytree(models / "fp8", tmp_path / "b\x1b[2Jad")
    (bad / "transformer" / "config.json").write_text("x")
    common = ["--prompts", str(models / "prompts.txt"), "--samples", "1", "--device", "cpu", "--no-speed", "--quiet"]
    given = ["eval", "run", str(models / "model"), str(models / "fp8"), str(bad), *common]
    ran = CliRunner().invoke(main, [*given, "--out", str(tmp_path / "evals")])
    assert ran.exit_code == 1 and "Traceback" not in ran.output
    assert ran.stderr.splitlines()[-1].startswith(r"failed: b\x1b[2Jad: cannot be loaded: ")
    assert re.search(r"^b\\x1b\[2Jad .* failed +failed", ran.stdout, re.M) and "\x1b" not in ran.output
    assert re.search(r"^fp8 +FP8_DYNAMIC", ran.stdout, re.M)
    (folder,) = (path for path in (tmp_path / "evals").iterdir() if (path / "results.json").is_file())
    rated: list[str] = []

    def play(videos: Path, samples: list[str], **options: Any) -> dict[str, Any]:
        rated.append(videos.name)
        return {"dynamic_degree": {"score": 0.5, "videos": {}}}

    monkeypatch.setattr("quant.eval.metrics.vbench.run_vbench", play)
    command = ["eval", "vbench", str(folder), "--dimension", "dynamic_degree"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert rated == ["original", "fp8"]
