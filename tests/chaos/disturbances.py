"""How a run is disturbed at a moment. A new way is one object in `DISTURBANCES`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.scenarios import Scenario

_DISK = 64 << 20
_BALLAST = "ballast"


@dataclass(frozen=True)
class Disturbance:
    """Something that goes wrong while a command runs.

    Attributes:
        name: for what is printed.
        strike: done at the moment, given the process, the folder and the scenario.
        mend: done when the process has ended, before the same command runs again.
        statuses: with which the disturbed run may end; 0 is always among them, for it may be done already.
        limited: a limit on the size of a file is set before, instead of `strike`.
        own_disk: the folder is a small disk of its own, for which the campaign has to be root.
    """

    name: str
    strike: Callable[[int, Path, Scenario], None]
    mend: Callable[[Path, Scenario], None] = lambda folder, scenario: None
    statuses: tuple[int, ...] = (2,)
    limited: bool = False
    own_disk: bool = False


def mount(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)


def _send(number: int) -> Callable[[int, Path, Scenario], None]:
    def strike(process: int, folder: Path, scenario: Scenario) -> None:
        os.kill(process, number)

    return strike


def _fill(process: int, folder: Path, scenario: Scenario) -> None:
    with (folder.parent / _BALLAST).open("wb", buffering=0) as file, suppress(OSError):
        for piece in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(piece))


def _remount(how: str, folder: Path) -> bool:
    return not subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], capture_output=True).returncode


def _write_protect(process: int, folder: Path, scenario: Scenario) -> None:
    """A disk with a file that is open for writing is busy: the next moment does as well."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while not _remount("ro", folder.parent) and os.waitid(os.P_PID, process, ended) is None:
        time.sleep(0.001)


def _take_away(process: int, folder: Path, scenario: Scenario) -> None:
    (folder / scenario.source).rename(folder / "gone")


def _bring_back(folder: Path, scenario: Scenario) -> None:
    (folder / "gone").rename(folder / scenario.source)


def _nothing(process: int, folder: Path, scenario: Scenario) -> None:
    pass


DISTURBANCES = [
    Disturbance("kill -9", _send(signal.SIGKILL), statuses=(-signal.SIGKILL,)),
    # Before Python has the handler it ends the process itself.
    Disturbance("SIGTERM", _send(signal.SIGTERM), statuses=(143, -signal.SIGTERM)),
    Disturbance("a limit on the size of files", _nothing, limited=True),
    Disturbance("vanished source", _take_away, _bring_back),
    Disturbance(
        "full disk",
        _fill,
        lambda folder, scenario: (folder.parent / _BALLAST).unlink(missing_ok=True),
        own_disk=True,
    ),
    Disturbance("read-only disk", _write_protect, lambda folder, scenario: _writable(folder.parent), own_disk=True),
]


def _writable(disk: Path) -> None:
    assert _remount("rw", disk)
