from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quant.errors import QuantError
from quant.eval.runs.processes import Ranks, ranks
from tests.eval.runs.conftest import free_port

#: Two processes that agree first, and then do not.
TWO = """
import os, sys
from quant.errors import QuantError
from quant.eval.runs.processes import ranks
rank = os.fork() and 1
os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1]}
with ranks() as these:
    these.agree(["the same", 1])
    try:
        these.agree(rank)
    except QuantError as error:
        os.write(1, f"{rank} {error}\\n".encode())  # one call: `print` may make several, and the other writes between
    try:
        these.together(lambda: 1 / rank)
    except (QuantError, ZeroDivisionError) as error:
        os.write(1, f"{rank} {type(error).__name__} {error}\\n".encode())
    these.gather(None)
if rank:
    assert os.wait()[1] == 0
"""


def test_processes_that_would_make_different_runs_are_stopped() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", TWO, str(free_port())],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = "process 1 would make another run than process 0"
    lines = sorted(line[: len(said) + 2] for line in ran.stdout.splitlines())
    assert lines == [
        "0 ZeroDivisionError division by zero",
        f"0 {said}",
        "1 QuantError process 0: ZeroDivisionError: division by zero"[: len(said) + 2],
        f"1 {said}",
    ]


def test_shares_are_disjoint_and_whole() -> None:
    items = list(range(7))
    shares = [Ranks(rank, 3).share(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert {len(share) for share in shares} == {2, 3}


def test_each_process_has_a_gpu_of_its_own_unless_one_is_named() -> None:
    assert Ranks(1, 2, 1).device("cuda") == "cuda:1"
    assert Ranks(1, 2, 1).device("cuda:0") == "cuda:0"
    assert Ranks().device("cuda") == "cuda"


def test_numbers_of_processes_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(QuantError, match="WORLD_SIZE"), ranks():
        raise AssertionError
