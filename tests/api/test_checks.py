"""A check of a verification: its status, and how many faults it lists."""

from __future__ import annotations

from quant.api.checks import MOST_FAULTS, Check


def test_a_check_lists_the_first_faults_and_counts_the_others() -> None:
    check = Check.of("vae", "values", "fine", (f"fault {i}\x1b" for i in range(MOST_FAULTS + 5)))
    assert (len(check.faults), check.more, check.count) == (MOST_FAULTS, 5, MOST_FAULTS + 5)
    assert check.faults[1] == "fault 1\\x1b"
    assert check.to_dict()["status"] == "FAIL"
    assert Check.of("vae", "values", "fine", ()).status == "ok"
