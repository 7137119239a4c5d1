"""The file of counts, `benchmarks/results/sass.json`: a build once, and what follows from it at every size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
RESULTS = Path(__file__).parent.parent / "results" / "sass.json"
#: Lengths that are held, and in what they are.
HELD = {
    "loop_instructions": "instructions of a step",
    "step_clocks": "clocks of a step",
    "epilogue_instructions": "instructions of an epilogue",
    "epilogue_clocks": "clocks of an epilogue",
}
#: So much longer is no longer the same.
_MOST = 1.05
#: What tells builds apart, and what is kept of each.
_NAME = ("kernel", "arch", "title", "ending")
_KEPT = (*_NAME, "tile", "bounds", *HELD)

Counts = Mapping[str, Any]


def written(found: Counts) -> str:
    """The file's text, of `CountedCosts.to_dict`: a line for each build, with [M, N, K, share] of every size.

    A step with few rows asks less of the L2 cache: what is kept is that of the most rows.
    """
    builds: dict[tuple[str, ...], dict[str, Any]] = {}
    for each in sorted(found["costs"], key=lambda each: -each["m"]):
        kept = builds.setdefault(_name(each), {**{name: each[name] for name in _KEPT}, "sizes": []})
        kept["sizes"].append([each["m"], each["n"], each["k"], each["share"]])
    head = {"format_version": FORMAT_VERSION, **{name: each for name, each in found.items() if name != "costs"}}
    lines = ",\n  ".join(json.dumps(each) for each in builds.values())
    return f'{json.dumps(head, indent=1)[:-2]},\n "builds": [\n  {lines}\n ]\n}}\n'


def read() -> dict[str, Any]:
    """What the file holds.

    Raises:
        ValueError: a file of another version.
    """
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    if found["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{RESULTS.name}: format_version {found['format_version']}, not {FORMAT_VERSION}")
    return found


def longer(before: Counts, after: Counts) -> list[str]:
    """What of `after` takes over 5% more than the same build of `before`, in words.

    A build that was not counted before is named, too: nothing holds it.
    """
    known = {_name(build): build for build in before["builds"]}
    lines = []
    for build in after["builds"]:
        name = _name(build)
        if name not in known:
            lines.append(f"{' '.join(name)}: not in {RESULTS.name}; run python -m benchmarks.sass")
            continue
        for key, what in HELD.items():
            old, new = known[name][key], build[key]
            if new > old * _MOST:
                lines.append(f"{' '.join(name)}: {new:,} {what}, were {old:,} ({new / old - 1:+.0%})")
    return lines


def _name(build: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(build[name] for name in _NAME)
