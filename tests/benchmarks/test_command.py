"""`python -m benchmarks.gpu`: without a GPU it says so; with a pretended one its steps leave a file and a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import readme
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import child, facts, results, sanitizer
from benchmarks.gpu.facts import ROOT
from benchmarks.gpu.steps import NOT_RUN, Outcome

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def files() -> dict[str, int]:
    """Everything that the command might write, with the time it was written."""
    found = [*(ROOT / "benchmarks").rglob("*"), *(ROOT / "tests" / "golden" / "ptx").rglob("*")]
    return {str(each): each.stat().st_mtime_ns for each in found if each.is_file() and each.parent.name[:2] != "__"}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **NO_GPU},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_gpu_it_says_that_nothing_was_measured() -> None:
    before = files()
    assert len(before) > 20
    ran = run_python("-m", "benchmarks.gpu", "--quick")
    assert ran.returncode == 1
    assert ran.stdout == (
        "No GPU is usable here: torch sees no CUDA device.\nNOTHING WAS MEASURED, and no file was written.\n"
    )
    assert files() == before


def test_its_parts_refuse_as_plainly(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "x")]
    parts = {"bench": [*out, "--seconds", "9"], "compiling": [], "smoke": [], "videos": out}
    program = (
        "import json, runpy, sys\n"
        "for part, options in json.loads(sys.argv[1]).items():\n"
        "    sys.argv[1:] = options\n"
        "    try:\n"
        "        runpy.run_module(f'benchmarks.gpu.{part}', run_name='__main__')\n"
        "    except SystemExit as stop:\n"
        "        text = stop.code if isinstance(stop.code, str) else ''\n"
        "        print(part, 'ended with', 1 if text else stop.code, text, file=sys.stderr)\n"
    )
    ran = run_python("-c", program, json.dumps(parts))
    assert ran.stdout == ""
    said = ran.stderr
    for part in parts:
        assert f"{part} ended with 1" in said, said
    assert said.count("no GPU is usable: torch sees no CUDA device") == len(parts)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: dict[str, Any], body: dict[str, Any]
) -> list[Sequence[str]]:
    """A machine with a made-up GPU, on which children leave made-up measurements; what was started on it."""
    found: list[Sequence[str]] = []

    def run(module: Sequence[str], seconds: float, **_: Any) -> child.Finished:
        found.append(module[2:])
        assert seconds > 0
        if module[2] == "benchmarks.gpu.bench":
            Path(module[module.index("--out") + 1]).write_text(json.dumps(measured))
        return child.Finished(1 if module[2] == "pytest" else 0, 1.0, ("first", "last line", ""))

    monkeypatch.setattr(child, "run", run)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    device = {**body["facts"]["device"], "uuid": None}
    monkeypatch.setattr(facts, "gather", lambda device_: {**body["facts"], "device": device})
    monkeypatch.setattr(facts, "clocks", lambda uuid: None)
    monkeypatch.setattr(sanitizer, "check", lambda seconds: Outcome(NOT_RUN, "absent"))
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(readme, "GPU_README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("# x\n<!-- figures: gpu -->\nold\n<!-- end -->\n")
    return found


def test_all_steps_run_in_order_and_a_failed_one_is_the_status(
    started: list[Sequence[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(command.NAMES, 7.5, quick=True, find=lambda: None) == 1
    assert [each[0] for each in started] == ["benchmarks.gpu.compiling", "pytest", "benchmarks.gpu.bench"]
    assert "--quick" in started[0]
    assert "--quick" in started[2]
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == "gpu_made-up-gpu.json"
    written = json.loads(path.read_text())
    assert [(each["name"], each["status"]) for each in written["steps"]] == [
        ("facts", "passed"),
        ("compile", "passed"),
        ("tests", "failed"),
        ("sanitizer", "did not run"),
        ("bench", "passed"),
        ("videos", "did not run"),
    ]
    assert written["videos"] is None
    assert written["quick"] is True
    assert "### Made-up GPU" in (tmp_path / "README.md").read_text()
    said = capsys.readouterr().out
    assert "videos did not run after 0.0 s: diffusers is not installed" in said
    assert "last line" in said


def test_only_some_steps(started: list[Sequence[str]], tmp_path: Path) -> None:
    assert command.run(["bench"], 7.5, quick=False, find=lambda: None) == 0
    assert [each[0] for each in started] == ["benchmarks.gpu.bench"]
    assert "--quick" not in started[0]
    seconds = float(started[0][started[0].index("--seconds") + 1])
    assert 7.5 * 60 - command.GRACE - 5 < seconds <= 7.5 * 60 - command.GRACE
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("xdist", "cores", "options"), [(True, 16, ["8", "2"]), (True, 1, []), (False, 16, [])])
def test_tests_are_shared_out_where_they_can_be(
    started: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, xdist: bool, cores: int, options: list[str]
) -> None:
    threads: list[str] = []
    run = child.run

    def noting(module: Sequence[str], seconds: float, **more: Any) -> child.Finished:
        threads.extend((more["env"] or {}).values())
        return run(module, seconds, **more)

    monkeypatch.setattr(child, "run", noting)
    monkeypatch.setattr(command, "find_spec", lambda name: True if name == "xdist" and xdist else None)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    command.run(["tests"], 7.5, quick=False, find=lambda: None)
    ((_, *given),) = started
    assert [each for each in given if "numprocesses" in each] == [f"--numprocesses={each}" for each in options[:1]]
    assert ("--dist=loadgroup" in given) == bool(options)
    assert threads == options[1:]


def test_time_for_videos_is_kept_only_where_they_can_be_made(
    started: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for there, kept in ((None, 0.0), (True, command.SHARES["videos"] * 450)):
        monkeypatch.setattr(command, "find_spec", lambda name, there=there: there)
        started.clear()
        command.run(["bench", "videos"], 7.5, quick=False, find=lambda: None)
        bench = next(each for each in started if each[0] == "benchmarks.gpu.bench")
        assert 450 - command.GRACE - kept - 5 < float(bench[bench.index("--seconds") + 1]) <= 450 - command.GRACE - kept


def test_without_measurements_nothing_is_written(started: list[Sequence[str]], tmp_path: Path) -> None:
    assert command.run(["write"], 7.5, quick=False, find=lambda: None) == 0
    assert started == []
    assert not (tmp_path / "results").exists()
    assert "old" in (tmp_path / "README.md").read_text()


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" in str(command.unusable())
