"""The table of counted costs in `benchmarks/README.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.sass.results import read
from quant.kernels.cost.cases import ENDINGS
from quant.kernels.matmuls.table import matmuls

#: Sizes that are counted, and whose share of the peak is shown: M, N, K of Wan2.1 14B's and 1.3B's layers.
SHOWN = ((32760, 5120, 5120), (32760, 5120, 13824), (32760, 1536, 1536))
_FIRST = SHOWN[0]


def section() -> str:
    """A line for each kernel and architecture, from `benchmarks/results/sass.json`."""
    found = read()
    sizes = [f"{n} x {k}" for _, n, k in SHOWN]
    head = ["kernel", "tile", "loop", "step", *(ending.name for ending in ENDINGS), *sizes]
    lines = [head, ["---", "---", *("---:" for _ in head[2:])]]
    for kernel in matmuls().values():
        for arch in kernel.architectures:
            mine = [each for each in found["builds"] if (each["kernel"], each["arch"]) == (kernel.name, arch)]
            if any(_share(each, _FIRST) for each in mine):
                lines.append(_line(f"`{kernel.name}` {arch}", mine))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"**{found['what']}** ({len(found['builds'])} builds by NVRTC {found['nvrtc']}).\n\n{table}\n\n"
        f"M is {_FIRST[0]:,}. loop: instructions of a warp in a step of the main loop. step: its clocks for a block, "
        "and what limits it: the tensor cores, shared memory, the bytes into a multiprocessor (port), those that the "
        "L2 cache hands out, the issue of instructions, or the latency of one warp's own path. Then, for what may "
        "follow the matmul, instructions of a warp / clocks of a block in the epilogue of a tile. At last N x K: the "
        "share of the tensor cores' peak with a bias, waves of tiles included. What is assumed of the hardware is in "
        "`quant/kernels/cost/assumed.py`, each number with its source."
    )


def _line(name: str, builds: list[Mapping[str, Any]]) -> list[str]:
    cells = []
    for ending in ENDINGS:
        at_first = next((each for each in builds if each["ending"] == ending.name and _share(each, _FIRST)), None)
        cells.append(
            "" if at_first is None else f"{at_first['epilogue_instructions']:,} / {at_first['epilogue_clocks']:,}"
        )
    plain = [each for each in builds if each["ending"] == ENDINGS[0].name]
    shown = next(each for each in plain if _share(each, _FIRST))
    limit = max(shown["bounds"], key=lambda each: float(shown["bounds"][each]))
    shares = [next((share for each in plain if (share := _share(each, size))), None) for size in SHOWN]
    return [
        name,
        shown["title"],
        f"{shown['loop_instructions']:.0f}",
        f"{shown['step_clocks']:,} {limit}",
        *cells,
        *("" if share is None else f"{share:.0%}" for share in shares),
    ]


def _share(build: Mapping[str, Any], size: tuple[int, int, int]) -> float | None:
    return next((share for *at, share in build["sizes"] if tuple(at) == size), None)


FIGURES = {"sass": section}
