"""tests/gpu is no part of the suite, and run by name without a GPU it fails instead of skipping."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.gpu.facts import ROOT

_ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def run_pytest(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options]
    return subprocess.run(command, cwd=ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)


def test_the_suite_does_not_collect_it() -> None:
    # Without a folder, as `make test` runs it; the other rooms are left out because importing them takes long.
    kept = ("gpu", "golden", "__init__.py", "conftest.py", "__pycache__")
    others = (path.name for path in (ROOT / "tests").iterdir() if path.name not in kept)
    ran = run_pytest("--collect-only", *(f"--ignore=tests/{name}" for name in others))
    assert "tests/golden/test_golden.py" in ran.stdout
    assert "tests/gpu/" not in ran.stdout


def test_by_name_it_is_collected_and_fails_without_a_gpu() -> None:
    # As the command calls it: without the conftest above, which asks for hypothesis.
    ran = run_pytest("tests/gpu", "--confcutdir=tests/gpu", "-k", "golden")
    assert ran.returncode == 1
    assert "tests/gpu needs a GPU that runs the kernels, and none is usable: torch sees no CUDA device" in ran.stdout
    assert "passed" not in ran.stdout
    assert "skipped" not in ran.stdout
