"""Kills `quant eval run` of two candidates at random moments, runs it again, and compares with a run left alone.

`python -m tests.chaos.eval_runs TRIALS [SEED]`. The short one among the tests is `tests/eval/runs/test_survival.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import quant
from quant.errors import QuantError
from tests.tiny_pipeline import PROMPTS, save_pipeline

ARGUMENTS = (
    *("eval", "run", "model", "fp8", "part", "--prompts", "prompts.txt", "--out", "evals"),
    *("--device", "cpu", "--no-speed", "--quiet"),
)
#: What a killed run may leave, and a finished one may not.
LEFTOVERS = ("**/*.part", "**/.lock*", "**/config.next.json")


def make_inputs(folder: Path) -> None:
    """The original, two candidates and prompts."""
    save_pipeline(folder / "model")
    quant.calibrate(folder / "model", "fp8-dynamic", folder / "fp8", full=True, progress=False)
    quant.calibrate(folder / "model", "w8a16", folder / "part", progress=False)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")


def found(out: Path) -> dict[str, Any]:
    """The results apart from when they were made, and the SHA-256 of every other file that does not hold a time."""
    (folder,) = out.iterdir()
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    del results["created"]
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("frames", "videos", "steps", "features", "config.json")
        for path in ((folder / kind).rglob("*") if (folder / kind).is_dir() else (folder / kind,))
        if path.is_file()
    }
    return {"results": results, "files": files}


def _no_page(*given: Any, **named: Any) -> Path:
    """The page is made anew from results each time, by a kernel that takes longer to start than the run."""
    raise QuantError("not made here")


def run(folder: Path, seconds: float | None = None) -> int:
    """The exit status of the command in `folder`, killed after `seconds`; negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(folder)
            with (folder / "log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            from quant.cli import main
            from quant.eval.report import notebook

            notebook.render = _no_page
            main(args=list(ARGUMENTS), prog_name="quant")
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def campaign(trials: int, seed: int, base: Path) -> list[str]:
    """Kills `trials` runs, each at a moment of its own, and returns what went wrong, a line each."""
    make_inputs(base)
    begun = time.monotonic()
    assert run(base) == 0, (base / "log").read_text()
    alone, seconds = found(base / "evals"), time.monotonic() - begun
    chance, problems = random.Random(seed), []
    for trial in range(trials):
        shutil.rmtree(base / "evals")
        moment = chance.uniform(0, seconds)
        killed = run(base, moment)
        status = run(base)
        where = f"trial {trial}, status {killed} at {moment:.2f} s"
        if status:
            problems.append(f"{where}: again {status}: {(base / 'log').read_text()[-400:]!r}")
        elif found(base / "evals") != alone:
            problems.append(f"{where}: other results or files")
        print(where, flush=True)
        left = [str(path) for pattern in LEFTOVERS for path in (base / "evals").glob(pattern)]
        problems += [f"{where}: {path} is left" for path in left]
    return problems


if __name__ == "__main__":
    import diffusers
    import torch

    import quant.diffusers

    assert diffusers.WanPipeline and quant.diffusers
    torch.set_num_threads(1)
    asked = [int(each) for each in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as made:
        wrong = campaign(asked[0] if asked else 20, asked[1] if len(asked) > 1 else 0, Path(made))
    print("\n".join(wrong) or "nothing lost, nothing left")
    sys.exit(bool(wrong))
