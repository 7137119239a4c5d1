"""`quant report` as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from quant.cli.report import report
from quant.errors import QuantError

CARD_CALL = ("--model-card", "ckpt", "--run", "run")


def test_a_run_becomes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, Path | None]] = []

    def render(run: Path, *, out: Path | None = None) -> Path:
        calls.append((run, out))
        return (out or run) / "report.html"

    monkeypatch.setattr("quant.eval.report.notebook.render", render)
    ran = CliRunner().invoke(report, [str(tmp_path)])
    assert (ran.exit_code, ran.stdout) == (0, f"open {tmp_path / 'report.html'}\n")
    assert CliRunner().invoke(report, [str(tmp_path), "--out", str(tmp_path / "o")]).exit_code == 0
    assert calls == [(tmp_path, None), (tmp_path, tmp_path / "o")]


def test_a_folder_without_results_is_the_users_mistake(tmp_path: Path) -> None:
    ran = CliRunner().invoke(report, [str(tmp_path)])
    assert isinstance(ran.exception, QuantError)
    assert "no such results: a run folder is what `quant eval run` makes" in str(ran.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "RUN is missing"),
        (["run", "--candidate", "w8a8"], "--candidate: only with --model-card"),
        (["run", "--run", "run"], "--run: only with --model-card"),
        (["--model-card", "ckpt"], "needs --run"),
        (["run", *CARD_CALL], "RUN as an argument: not with --model-card"),
        (["--out", "o", *CARD_CALL], "--out: not with --model-card"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    ran = CliRunner().invoke(report, arguments)
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_a_model_card_is_written_with_the_candidate_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.eval.results.recorded.read", lambda run: f"results of {run}")
    monkeypatch.setattr("quant.eval.report.model_card.model_card", lambda *given: f"a card: {given}")
    arguments = ["--model-card", str(tmp_path), "--run", "run", "--candidate", "w8a8"]
    ran = CliRunner().invoke(report, arguments)
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == f"wrote {tmp_path / 'README.md'}\n"
    assert (tmp_path / "README.md").read_text() == f"a card: {('results of run', tmp_path, 'w8a8')}"
    ran = CliRunner().invoke(report, arguments)
    assert isinstance(ran.exception, QuantError)  # not marked as written by the command
    assert CliRunner().invoke(report, [*arguments, "--force"]).exit_code == 0
