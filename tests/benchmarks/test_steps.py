"""Steps and processes: what fails is remembered, what hangs is ended, what is absent is said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.gpu import child, sanitizer
from benchmarks.gpu.steps import FAILED, NOT_RUN, PASSED, Done, Outcome, Step, run_steps, summary


def test_a_failed_step_does_not_stop_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Outcome:
        raise RuntimeError("no luck\nand more")

    done: list[Done] = []
    steps = [Step("one", "breaks", broken), Step("two", "works", lambda: Outcome(PASSED, "fine"))]
    run_steps(steps, done, clock=iter(range(10)).__next__)
    assert [(each.name, each.status, each.says, each.seconds) for each in done] == [
        ("one", FAILED, "RuntimeError: no luck", 1),
        ("two", PASSED, "fine", 1),
    ]
    said = capsys.readouterr()
    assert "== one: breaks" in said.out
    assert "Traceback" in said.err
    assert summary(done).splitlines()[1].split() == ["two", "passed", "1.0", "s", "fine"]


def test_a_command_is_shown_and_its_status_kept() -> None:
    shown: list[str] = []
    program = "import os, sys; print('out'); print(os.environ['WORD'], file=sys.stderr); sys.exit(3)"
    done = child.run([sys.executable, "-c", program], 20, env={"WORD": "err"}, echo=shown.append)
    assert done.status == 3
    assert sorted(done.lines) == ["err", "out"]
    assert sorted(shown) == ["  err", "  out"]


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    done = child.run([sys.executable, "-c", program], 0.5, echo=lambda line: None)
    assert done.status is None
    assert done.seconds < 5


def test_the_sanitizer_is_found_or_said_to_be_absent(tmp_path: Path) -> None:
    outcome = sanitizer.check(9.0, find=lambda: None)
    assert outcome.status == NOT_RUN
    assert "not installed" in outcome.says
    program = tmp_path / "bin" / sanitizer.PROGRAM
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert sanitizer.program({"PATH": "", "CUDA_HOME": str(tmp_path)}) == str(program)


@pytest.mark.parametrize(
    ("statuses", "status", "says"),
    [
        ((0, 0), PASSED, "memcheck found nothing; racecheck found nothing"),
        ((86, 0), FAILED, "memcheck found faults, see above; racecheck found nothing"),
        ((0, 1), FAILED, "memcheck found nothing; racecheck could not run: exit status 1"),
        ((None, 0), FAILED, "memcheck took over 4 s and was stopped; racecheck found nothing"),
    ],
)
def test_what_the_sanitizer_says(statuses: tuple[int | None, ...], status: str, says: str) -> None:
    calls: list[tuple[Sequence[str], float, dict[str, str]]] = []

    def run(command: Sequence[str], seconds: float, *, env: dict[str, str]) -> child.Finished:
        calls.append((command, seconds, env))
        return child.Finished(statuses[len(calls) - 1], 4.0, ())

    assert sanitizer.check(10.0, find=lambda: "/x/compute-sanitizer", run=run) == Outcome(status, says)
    assert [seconds for _, seconds, _ in calls] == [5.0, 6.0]
    command, _, env = calls[0]
    assert command[:3] == ["/x/compute-sanitizer", "--tool=memcheck", "--error-exitcode=86"]
    assert command[-2:] == ["-m", "benchmarks.gpu.smoke"]
    assert env == {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
