"""Facts are read as they are printed, and null where they can't be told."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.gpu import facts


def test_what_cannot_be_told_is_null() -> None:
    assert facts.commit(lambda command: None) == {"commit": None, "dirty": None}
    assert facts.clocks(None, lambda command: None) is None
    assert facts.clocks("GPU-1", lambda command: "an error\n") is None
    assert facts.ask(["a-program-there-is-not"]) is None
    assert facts.ask([sys.executable, "-c", "import sys; sys.exit(1)"]) is None
    assert facts.ask([sys.executable, "-c", "print(1)"]) == "1\n"


def test_clocks() -> None:
    asked: list[Sequence[str]] = []

    def smi(command: Sequence[str]) -> str | None:
        asked.append(command)
        return "1980, 2619, 1980, 45, 120.50, [N/A]\n"

    found = facts.clocks("GPU-1", smi)
    assert found is not None
    assert list(found) == ["sm_mhz", "memory_mhz", "sm_max_mhz", "celsius", "watts", "watts_limit"]
    assert list(found.values()) == [1980, 2619, 1980, 45, 120.5, None]
    assert asked[0][:3] == ["nvidia-smi", "-i", "GPU-1"]


def test_the_commit_and_whether_anything_differs() -> None:
    answers = {"rev-parse": "abc\n", "status": ""}
    assert facts.commit(lambda command: answers[command[1]]) == {"commit": "abc", "dirty": False}
    answers["status"] = " M x\n"
    assert facts.commit(lambda command: answers[command[1]])["dirty"] is True


def test_a_name_in_a_file_name() -> None:
    assert facts.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
