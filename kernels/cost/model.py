"""The model of the hardware: the clocks of a matmul from what its blocks do, for the choice of a tile and for tables.

Without what was counted from machine code, it takes a guess for that.
"""

from __future__ import annotations

from typing import NamedTuple

from quant.kernels.cost.assumed import value
from quant.kernels.runtime.architectures import Architecture


class Work(NamedTuple):
    """What the blocks of a matmul do, as a skeleton cuts it up.

    Attributes:
        blocks: tiles of the result.
        places: multiprocessors that work on them.
        together: blocks that share a multiprocessor.
        warps: of a block, that multiply.
        steps: of K.
        products: of a step of a block, as dense ones of 8 bits that take as long.
        rate: of those, what a multiprocessor multiplies in a clock.
        shared_bytes: of a step, written to and read from shared memory.
        port_bytes: of a step, that come into the multiprocessor.
        l2_bytes: of a step, that the L2 cache hands out for it, and what it does in a clock.
        not_overlapped: of all but the longest of these, the part that is waited for all the same.
        fill: clocks of a block beside its steps and its epilogue.
        finish: clocks of its epilogue, where they were not counted.
    """

    blocks: int
    places: int
    together: int
    warps: int
    steps: int
    products: float
    rate: float
    shared_bytes: float
    port_bytes: float
    l2_bytes: tuple[float, float]
    not_overlapped: float
    fill: float
    finish: float


class Counted(NamedTuple):
    """What was counted from the machine code of one warp.

    Attributes:
        instructions: of a step; with `slow` of them special functions and conversions.
        clocks: of a step, where no other warp is in the way.
        epilogue_instructions, epilogue_slow, epilogue_clocks: the same of the whole epilogue of a tile.
    """

    instructions: float
    slow: float
    clocks: float
    epilogue_instructions: int
    epilogue_slow: int
    epilogue_clocks: float


class Clocks(NamedTuple):
    """What a matmul takes.

    Attributes:
        bounds: of a step of a block, by what limits it; it takes the longest.
        step: clocks of a step.
        epilogue: clocks of a tile's.
        total: of the whole matmul.
        share: of the peak of its multiply-adds on the whole GPU.
    """

    bounds: dict[str, float]
    step: float
    epilogue: float
    total: float
    share: float


def clocks(work: Work, multiprocessors: int, counted: Counted | None = None) -> Clocks:
    """The clocks of a matmul.

    Units of a multiprocessor do the work of all its blocks one after the other; blocks that share it hide each other's
    waiting: for a step, for the first bytes, and in the epilogue.

    Args:
        work: of its blocks.
        multiprocessors: of the GPU, whose peak is shared.
        counted: of its build.
    """
    l2_bytes, l2_rate = work.l2_bytes
    bounds = {
        "tensor": work.products / work.rate,
        "shared": work.shared_bytes / value("shared_bytes"),
        "port": work.port_bytes / value("port_bytes"),
        "L2": l2_bytes / l2_rate,
    }
    epilogue, alone = work.finish, value("shortest_step")
    if counted is not None:
        bounds["issue"] = issued(counted.instructions, counted.slow, work.warps)
        alone = counted.clocks
        epilogue = max(
            counted.epilogue_clocks, issued(counted.epilogue_instructions, counted.epilogue_slow, work.warps)
        )
    longest, *others = sorted(bounds.values(), reverse=True)
    busy = longest + sum(others) * work.not_overlapped
    rounds = -(-work.blocks // work.places)
    waves = -(-rounds // work.together)
    total = work.steps * max(rounds * busy, waves * alone) + waves * (work.fill + epilogue)
    ideal = work.blocks * work.steps * bounds["tensor"] / multiprocessors
    share = ideal / total if total else 0.0  # of an input without rows
    return Clocks({**bounds, "latency": alone}, max(busy, alone), epilogue, total, share)


def issued(instructions: float, slow: float, warps: int) -> float:
    """Clocks in which a multiprocessor's schedulers issue the instructions of so many warps, `slow` of them slow."""
    return max(instructions * warps / value("schedulers"), slow * warps * 32 / value("slow_results"))


def resident(architecture: Architecture, shared_bytes: int, registers: int) -> int:
    """Blocks that fit on a multiprocessor, at least one.

    Args:
        architecture: whose.
        shared_bytes: of a block; each costs 1 KiB besides.
        registers: of all threads of a block.
    """
    shared = architecture.shared_bytes_per_sm // (shared_bytes + 1024)
    return max(min(shared, architecture.registers_per_sm // registers), 1)
