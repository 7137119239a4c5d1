"""`make fuzz`: the campaign at full length, with a table of outcomes."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import diffusers

from quant.cli.progress import silence_loading
from tests.fuzz.runner import GOOD, Outcome, campaign, seeded
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS


def shares(targets: tuple[Target, ...], mutations: int) -> dict[str, int]:
    """How many of the mutations each target gets, at least one."""
    whole = sum(target.share for target in targets)
    return {target.name: max(1, round(mutations * target.share / whole)) for target in targets}


def main(arguments: list[str] | None = None) -> int:
    """Runs the campaign; the status is 1 where any outcome is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="of all targets together")
    parser.add_argument("--target", help="only the targets whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one mutation, to see it again")
    given = parser.parse_args(arguments)
    silence_loading()
    diffusers.logging.set_verbosity_error()
    targets = tuple(target for target in TARGETS if given.target is None or given.target in target.name)
    wrong: list[tuple[Target, Outcome]] = []
    for name, count in shares(targets, given.mutations).items():
        target = next(target for target in targets if target.name == name)
        numbers = range(count) if given.only is None else range(given.only, given.only + 1)
        seen = Counter[str]()
        for outcome in campaign(target, seeded(target, given.seed), numbers):
            seen[outcome.kind] += 1
            if outcome.kind not in GOOD:
                wrong.append((target, outcome))
            if given.only is not None:
                print(outcome)
        print(f"{name:28}{sum(seen.values()):7,}  " + ", ".join(f"{n:,} {kind}" for kind, n in seen.most_common()))
    for target, outcome in wrong[:50]:
        print(f"{target.name} --only {outcome.number}: {outcome.kind}: {outcome.change}: {outcome.words}")
    print(f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
