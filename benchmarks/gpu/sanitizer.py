"""compute-sanitizer over smoke.py, where it is installed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.gpu import child
from benchmarks.gpu.steps import FAILED, NOT_RUN, PASSED, Outcome

PROGRAM = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
#: Exit status of the sanitizer where it found something; no other program ends with it.
FOUND = 86
#: Without torch's cache every tensor is an allocation of its own, and a read behind its end is seen.
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def program(environment: Mapping[str, str] = os.environ) -> str | None:
    """Its path: on the PATH, or in the toolkit that CUDA_HOME or CUDA_PATH names, or in CUDA's usual folder."""
    folders = [environment.get("CUDA_HOME"), environment.get("CUDA_PATH"), "/usr/local/cuda"]
    inside = [str(Path(folder) / "bin") for folder in folders if folder]
    return shutil.which(PROGRAM, path=os.pathsep.join([environment.get("PATH", ""), *inside]))


def command(sanitizer: str, tool: str) -> list[str]:
    """One tool over the smoke run."""
    return [
        sanitizer,
        f"--tool={tool}",
        f"--error-exitcode={FOUND}",
        "--print-limit=20",
        sys.executable,
        "-m",
        "benchmarks.gpu.smoke",
    ]


def check(
    seconds: float,
    *,
    find: Callable[[], str | None] = program,
    run: Callable[..., child.Finished] = child.run,
) -> Outcome:
    """Both tools within `seconds`."""
    sanitizer = find()
    if sanitizer is None:
        return Outcome(NOT_RUN, f"{PROGRAM} is not installed: races and stray accesses on this GPU were not looked for")
    said, failed = [], False
    for number, tool in enumerate(TOOLS):
        done = run(command(sanitizer, tool), seconds / (len(TOOLS) - number), env=ENVIRONMENT)
        seconds -= done.seconds
        if done.status == 0:
            said.append(f"{tool} found nothing")
            continue
        failed = True
        if done.status is None:
            said.append(f"{tool} took over {done.seconds:.0f} s and was stopped")
        elif done.status == FOUND:
            said.append(f"{tool} found faults, see above")
        else:
            said.append(f"{tool} could not run: exit status {done.status}")
    return Outcome(FAILED if failed else PASSED, "; ".join(said))
