"""A short version of the campaign of `make chaos`: nothing is lost, nothing is left, the same command ends the same."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.campaign import campaign
from tests.chaos.disturbances import DISTURBANCES
from tests.chaos.scenarios import SCENARIOS


def test_disturbed_runs_end_like_others(tmp_path: Path) -> None:
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in ("recorded and solved", "in place of another")]
    ways = [way for way in DISTURBANCES if not way.own_disk]
    result = campaign(scenarios, ways, 8, 1, tmp_path)  # each in each way once
    assert result.problems == []
    assert result.counts["runs"] == 8
    assert result.struck
