"""Disturbs commands at random moments, runs each again, and compares with a run that was left alone."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.chaos.disturbances import Disturbance, mount, unmount
from tests.chaos.scenarios import Scenario, lay_out, make_inputs

#: A run that takes longer hangs.
_SECONDS = 120


@dataclass
class Result:
    """What a campaign found.

    Attributes:
        counts: runs, kills (disturbances that struck a run at work), resumed, losses, leftovers, failures.
        problems: one line for each of the last three.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def problem(self, kind: str, where: str, what: str) -> None:
        self.counts[kind] += 1
        self.problems.append(f"{kind}: {where}: {what}")

    @property
    def struck(self) -> bool:
        """Whether a run was killed at work, and one went on with what another had left: else nothing was tried."""
        return self.counts["kills"] > 0 and self.counts["resumed"] > 0

    def __str__(self) -> str:
        kinds = ("runs", "kills", "resumed", "losses", "leftovers", "failures")
        return ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)


@dataclass(frozen=True)
class _Alone:
    """A run that nothing disturbed: its files by path, how long it took, and the size of the largest file."""

    files: dict[str, str]
    seconds: float
    largest: int


@contextmanager
def warmed_up(inputs: Path) -> Iterator[None]:
    """Imports what a command needs by doing it once, for all processes that are forked from this one."""
    import tqdm

    import quant
    from quant.calibration.journal import Journal

    defaults: dict[str, Any] = Journal.__init__.__kwdefaults__ or {}
    before = tqdm.tqdm.monitor_interval, torch.get_num_threads(), defaults["seconds"]
    tqdm.tqdm.monitor_interval = 0  # a thread, and forks want none
    torch.set_num_threads(1)
    defaults["seconds"] = 0.0  # as of a model whose prompts take minutes
    out, settings = inputs / "warm", quant.GenerationSettings(num_inference_steps=1)
    quant.calibrate(inputs / "model", "w8a8", out, prompts=["snow"], settings=settings, progress=False)
    shutil.rmtree(out)
    try:
        yield
    finally:
        tqdm.tqdm.monitor_interval, _, defaults["seconds"] = before
        torch.set_num_threads(before[1])


def campaign(
    scenarios: Sequence[Scenario], disturbances: Sequence[Disturbance], trials: int, seed: int, base: Path
) -> Result:
    """Disturbs each scenario in each way in turn, until there are `trials` runs.

    Args:
        base: an empty folder to work in.
    """
    make_inputs(base / "inputs")
    with warmed_up(base / "inputs"):
        return _campaign(scenarios, disturbances, trials, random.Random(seed), base)


def _campaign(
    scenarios: Sequence[Scenario], disturbances: Sequence[Disturbance], trials: int, chance: random.Random, base: Path
) -> Result:
    inputs, result = base / "inputs", Result()
    alone: dict[str, _Alone] = {}
    for recipe in sorted({scenario.old for scenario in scenarios if scenario.old}):
        command = ("calibrate", "model", "--recipe", recipe, "--out", recipe, "--quiet")
        status, said = _start(inputs, command).wait()
        assert status == 0, said
    for scenario in scenarios:
        alone[scenario.name] = _left_alone(inputs, base / "alone", scenario)
    pairs = [(scenario, disturbance) for disturbance in disturbances for scenario in scenarios]
    for number in range(trials):
        scenario, disturbance = pairs[number % len(pairs)]
        at_work = number < len(scenarios)  # of the first way, which is to kill: these strike for certain
        disk = base / "disk"
        disk.mkdir()
        if disturbance.own_disk:
            mount(disk)
        try:
            _trial(inputs, disk / "work", scenario, disturbance, alone[scenario.name], chance, result, at_work=at_work)
        finally:
            if disturbance.own_disk:
                unmount(disk)
            shutil.rmtree(disk)
    return result


def _trial(
    inputs: Path,
    folder: Path,
    scenario: Scenario,
    disturbance: Disturbance,
    alone: _Alone,
    chance: random.Random,
    result: Result,
    *,
    at_work: bool,
) -> None:
    """Disturbs one run, at a random moment or as soon as it is `at_work`, and runs it again."""
    lay_out(inputs, folder, scenario)
    before, made = {path.name for path in folder.iterdir()}, folder / scenario.made
    old = _tree(made)
    limit = int(chance.random() * alone.largest) if disturbance.limited else None
    moment = chance.random() * alone.seconds
    when = f"{limit} bytes" if limit is not None else "at work" if at_work else f"at {moment:.3f} s"
    where = f"{scenario.name}, {disturbance.name}, {when}"
    run = _start(folder, scenario.arguments, limit)
    if at_work:
        _wait_for_work(run, folder, scenario)
    elif limit is None:
        time.sleep(moment)
    disturbance.strike(run.process, folder, scenario)
    status, said = run.wait()
    disturbance.mend(folder, scenario)
    result.counts["runs"] += 1
    result.counts["kills"] += status != 0
    result.counts["resumed"] += scenario.kept(folder)
    if status not in (0, *disturbance.statuses) or "Traceback" in said:
        result.problem("failures", where, f"status {status}: {said[-400:]!r}")
    found = _tree(made)
    if scenario.one_by_one:
        shown = {path: sha256 for path, sha256 in found.items() if not path.startswith(".")}
        if not shown.items() <= alone.files.items():
            result.problem("losses", where, f"{scenario.made} holds a file that is not whole")
    elif found not in ({}, old, alone.files):
        result.problem("losses", where, f"{scenario.made} is neither the old nor the whole new one")
    # What stands already is not made again without being asked to.
    finished = found == alone.files and not scenario.old and not scenario.one_by_one
    status, said = _start(folder, scenario.arguments).wait()
    if status != (2 if finished else 0) or "Traceback" in said:
        result.problem("failures", where, f"again: status {status}: {said[-400:]!r}")
    if _tree(made) != alone.files:
        result.problem("losses", where, f"{scenario.made} differs from that of an undisturbed run")
    left = {path.name for path in folder.iterdir()} - before - {scenario.made}
    if left:
        result.problem("leftovers", where, ", ".join(sorted(left)))


def _wait_for_work(run: _Run, folder: Path, scenario: Scenario) -> None:
    """Returns when the command has something for the next run, or has begun where it never has; or has ended."""
    begun = scenario.kept if scenario.keeps else lambda folder: (folder / f".{scenario.made}.quant" / "new").exists()
    while not begun(folder) and os.waitid(os.P_PID, run.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)


def _left_alone(inputs: Path, base: Path, scenario: Scenario) -> _Alone:
    seconds = []
    for _ in range(2):  # the first reads code and files from the disk
        folder = base / "work"
        lay_out(inputs, folder, scenario)
        begun = time.monotonic()
        status, said = _start(folder, scenario.arguments).wait()
        seconds.append(time.monotonic() - begun)
        assert status == 0, said
        files = _tree(folder / scenario.made)
        largest = max(path.stat().st_size for path in (folder / scenario.made).rglob("*"))
        shutil.rmtree(base)
    return _Alone(files, min(seconds), largest)


def _tree(folder: Path) -> dict[str, str]:
    """SHA-256 by path of all files of a folder; empty where there is none."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class _Run:
    """A command in a forked process, and what it writes to its stderr."""

    def __init__(self, process: int, pipe: int) -> None:
        self.process, self._pipe = process, pipe

    def wait(self) -> tuple[int, str]:
        """Its status, negative for the signal that ended it, and what it said. One that hangs is killed."""
        watch = threading.Timer(_SECONDS, os.kill, (self.process, 9))
        watch.start()
        with os.fdopen(self._pipe, errors="replace") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        watch.cancel()
        return status, said


def _start(folder: Path, arguments: Sequence[str], limit: int | None = None) -> _Run:
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return _Run(process, reading)
    status = 1
    try:
        # torch makes its threads anew after a fork, which only one thread may do: before a loader starts several.
        torch.set_num_threads(1)
        os.chdir(folder)
        os.dup2(writing, 2)
        os.dup2(writing, 1)
        # Those of this process believe in the files that they were opened on.
        sys.stdout, sys.stderr = (os.fdopen(handle, "w", buffering=1, closefd=False) for handle in (1, 2))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from quant.cli import main

        main(args=list(arguments), prog_name="quant")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError("a forked process went on")
