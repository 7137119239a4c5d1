"""What a build takes, counted from its machine code: nothing is run, and no GPU is needed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from quant.kernels.cost import machine_code
from quant.kernels.cost.cases import Case
from quant.kernels.cost.machine_code import Code
from quant.kernels.cost.model import Clocks, Counted, Work, clocks
from quant.kernels.cost.paths import main_loop, way
from quant.kernels.cost.walking import Spent, Warp
from quant.kernels.matmuls.base import WGMMA
from quant.kernels.runtime.cubins import cubin_path
from quant.kernels.runtime.launch import Build

#: After so many steps the next one takes what all others take.
_WARM = 3


class Cost(NamedTuple):
    """What a matmul costs.

    Attributes:
        case: which one.
        counted: of its build.
        clocks: that follow.
    """

    case: Case
    counted: Counted
    clocks: Clocks

    @property
    def limit(self) -> str:
        """What a step waits for."""
        return max(self.clocks.bounds, key=lambda name: self.clocks.bounds[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, its numbers rounded to what is worth reading."""
        case = self.case
        return {
            "kernel": case.kernel.name,
            "arch": case.architecture.name,
            **case.size._asdict(),
            "ending": case.ending.name,
            "tile": list(case.tile),
            "title": str(case.tile),
            "loop_instructions": round(self.counted.instructions, 1),
            "step_clocks": round(self.clocks.step),
            "bounds": {name: round(each) for name, each in self.clocks.bounds.items()},
            "epilogue_instructions": self.counted.epilogue_instructions,
            "epilogue_clocks": round(self.clocks.epilogue),
            "share": round(self.clocks.share, 3),
        }


def costs(cases: Sequence[Case]) -> list[Cost]:
    """The cost of every case, in their order; each build is compiled and read once.

    Raises:
        KernelError: the compiler or the disassembler is missing, or the code is not what this knows to read.
    """
    counted: dict[tuple[str, Build], Counted] = {}
    for arch in dict.fromkeys(case.architecture.name for case in cases):
        first = {case.launch.build: case for case in cases[::-1] if case.architecture.name == arch}
        cubins = [cubin_path(build, arch).read_bytes() for build in first]
        for each, code in zip(first.values(), machine_code.read(cubins, arch), strict=True):
            counted[arch, each.launch.build] = count(each, code)
    found = []
    for case in cases:
        mine = counted[case.architecture.name, case.launch.build]
        found.append(Cost(case, mine, clocks(work(case), case.architecture.multiprocessors, mine)))
    return found


def work(case: Case) -> Work:
    """What its blocks do."""
    return case.kernel.work(case.tile, *case.size, case.architecture, case.architecture.multiprocessors)


def count(case: Case, code: Code) -> Counted:
    """What a warp of its build does.

    Raises:
        KernelError: no main loop is found.
    """
    instructions, does = code.instructions, work(case)
    loop = main_loop(instructions)
    group = case.kernel.instruction.split(".")[0] in WGMMA
    units = does.warps // 4 if group else does.warps
    warp = Warp(
        instructions,
        constants(code, bytes(case.launch.arguments)),
        does.rate if group else does.rate / 4,
    )
    warp.follow(way(instructions, 0, loop.first))
    # The producer's wait for a cluster's blocks does so at every step.
    throws_l1_away = any(each.opcode == "CCTL.IVALL" for each in instructions)
    step = Spent(0, 0, 0, 0)
    for _ in range(_WARM):
        before = warp.spent()
        warp.follow(range(loop.first, loop.last + 1), l1=not throws_l1_away)
        step = minus(warp.spent(), before)
    before = warp.spent()
    warp.walk(loop.after, loop.first, rounds=case.kernel.epilogue_rounds(case.tile))
    epilogue = minus(warp.spent(), before)
    steps = step.products * units / does.products
    return Counted(
        step.instructions / steps,
        step.slow / steps,
        step.clocks / steps,
        epilogue.instructions,
        epilogue.slow,
        epilogue.clocks,
    )


def constants(code: Code, argument: bytes) -> dict[int, int]:
    """Words of the constant bank, by their byte: those of a kernel's argument."""
    words = struct.unpack(f"<{len(argument) // 4}i", argument[: len(argument) // 4 * 4])
    return {code.arguments_at + 4 * place: word for place, word in enumerate(words)}


def minus(one: Spent, other: Spent) -> Spent:
    """What was spent between two times."""
    return Spent(
        one.clocks - other.clocks,
        one.instructions - other.instructions,
        one.slow - other.slow,
        one.products - other.products,
    )
