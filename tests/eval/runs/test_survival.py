"""Runs that are killed before each kind of change they make on the disk end with the results of one that was not.

`python -m tests.chaos.eval_runs` kills at random moments.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from quant.eval.inputs.config import EvaluationConfig
from quant.eval.runs.running import run_evaluation
from tests.eval.runs.conftest import tiny

#: What a killed run may leave, and a finished one may not.
LEFTOVERS = ("**/*.part", "**/.lock*", "**/config.next.json")


def results(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/results.json")
    body: dict[str, Any] = json.loads(path.read_text())
    del body["created"]
    return body


def test_a_run_killed_before_each_kind_of_change_ends_like_another(models: Path, tmp_path: Path) -> None:
    prompts = ["a red fox", "a blue bird", "snow", "a fox", "a bird", "red"]
    config = tiny(models, prompts=prompts)
    log = tmp_path / "changes"
    with log.open("w", buffering=1) as lines:
        assert run(config, tmp_path / "whole", lambda kind: print(kind, file=lines)) == 0
    kinds = log.read_text().splitlines()
    assert len(set(kinds)) > 15, kinds
    for number, kind in enumerate(dict.fromkeys(kinds)):
        # Of what is done for each video, every other kind for the second that is left: so the next run finds more.
        left = [min(1 + number % 2, kinds.count(kind))]

        def kill(found: str, kind: str = kind, left: list[int] = left) -> None:
            left[0] -= found == kind
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        assert run(config, tmp_path / "killed", kill) == -signal.SIGKILL, kind
    print(kinds, len(dict.fromkeys(kinds)))
    assert run(config, tmp_path / "killed") == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert not [path for pattern in LEFTOVERS for path in (tmp_path / "killed").glob(pattern)]


def run(config: EvaluationConfig, out: Path, changes: Callable[[str], None] = lambda kind: None) -> int:
    """The exit status of a run in a process of its own, which calls `changes` before each change below `out`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)  # made anew after a fork
            sys.addaudithook(lambda event, given: name_change(event, given, out, changes))
            run_evaluation(config, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def name_change(event: str, given: tuple[Any, ...], out: Path, changes: Callable[[str], None]) -> None:
    """Calls `changes` with the kind of an audited change below `out`: those of different samples and models are one."""
    writes = event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR)
    if not (writes or event in ("os.rename", "os.remove")) or not isinstance(given[0], str | os.PathLike):
        return
    path = Path(given[0])
    if path.is_relative_to(out):
        inner = path.relative_to(out).parts[1:]
        name = re.sub(r"\.[0-9a-f]{8}\.part$", ".part", path.name).removeprefix(".")
        changes(f"{event} {name}" if len(inner) < 2 else f"{event} {inner[0]} {name.partition('.')[2]}")
