"""The whole campaign: python -m tests.chaos --kills 200."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.chaos.campaign import campaign
from tests.chaos.disturbances import DISTURBANCES
from tests.chaos.scenarios import SCENARIOS


def run() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--kills", type=int, default=200, help="runs that are disturbed, of all kinds in turn")
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    options.add_argument("--only", default="", help="scenarios and disturbances whose names hold this")
    given = options.parse_args()
    ways = [way for way in DISTURBANCES if os.geteuid() == 0 or not way.own_disk]
    if len(ways) < len(DISTURBANCES):
        print("full and read-only disks are left out: they need root, to mount small ones")
    named = [scenario for scenario in SCENARIOS if given.only in scenario.name]
    ways = [way for way in ways if given.only in way.name] or ways
    with tempfile.TemporaryDirectory() as base:
        result = campaign(named or SCENARIOS, ways, given.kills, given.seed, Path(base))
    for problem in result.problems:
        print(problem)
    print(f"seed {given.seed}: {result}")
    if not given.only and not result.struck:
        print("no run was killed at work and resumed: the campaign has shown nothing")
        return 1
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(run())
