"""Counts every matmul kernel at sizes of Wan2.1: `python -m benchmarks.sass`, some minutes of one core.

With a bias on every architecture, and with everything else that may follow on the newest one; `--every` counts all that
may follow at all shapes of `benchmarks/gpu/shapes.json`, many times as many builds. `--check` counts again and compares
with `benchmarks/results/sass.json`; it fails if a main loop or an epilogue has become longer by over 5%. Compiled
kernels are kept in the cache as always.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.gpu import shapes
from benchmarks.sass.results import RESULTS, longer, read, written
from benchmarks.sass.table import SHOWN
from quant.api.cost import counted, wanted
from quant.kernels.cost.cases import ENDINGS, Case
from quant.kernels.runtime.architectures import ARCHITECTURES


def chosen(*, every: bool) -> list[Case]:
    """What to count."""
    if every:
        return wanted(None, None, [(each.m, each.n, each.k) for each in shapes.matmuls()])
    newest = list(ARCHITECTURES)[-1]
    return [*wanted(None, None, SHOWN, ENDINGS[:1]), *wanted(None, newest, SHOWN[:1], ENDINGS[1:])]


def main() -> int:
    """The exit status: 1 where something has become longer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sass", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the results instead of writing them")
    parser.add_argument("--every", action="store_true", help="every shape with everything that may follow")
    options = parser.parse_args()
    text = written(counted(chosen(every=options.every)).to_dict())
    if not options.check:
        RESULTS.write_text(text, encoding="utf-8")
        return 0
    lines = longer(read(), json.loads(text))
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
