"""Commands in processes of their own, with a time limit: a fault or a hang of a kernel ends that process only."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import click

from benchmarks.gpu.facts import ROOT

#: Last lines of the output that are kept.
_KEPT = 400


class Finished(NamedTuple):
    """How a command ended.

    Attributes:
        status: its exit status; None where the limit was reached and it was killed.
        seconds: it ran.
        lines: the last lines of its output.
    """

    status: int | None
    seconds: float
    lines: tuple[str, ...]


def run(
    command: Sequence[str],
    seconds: float,
    *,
    env: Mapping[str, str] | None = None,
    echo: Callable[[str], object] = click.echo,
) -> Finished:
    """Runs a command in the repository's root and shows its output as it comes.

    Args:
        command: program and arguments.
        seconds: it and all it started are killed after these.
        env: variables on top of this process's own.
        echo: shows a line.

    Raises:
        OSError: it cannot be started.
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            echo(f"  {lines[-1]}")

    # Not read here: what the command started may outlive it and keep its output open.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    status: int | None
    try:
        status = process.wait(timeout=max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = None
    reader.join(timeout=5)
    return Finished(status, time.monotonic() - begin, tuple(lines[-_KEPT:]))
