"""What the catalogue says of a kernel, and the epilogues with which every matmul is compiled to be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host import epilogue as endings
from quant.kernels.runtime.launch import Build


@dataclass(frozen=True)
class Kernel:
    """One source file in `kernels/cuda`.

    Attributes:
        name: of the file, of its entry point and of its implementation in `dispatch`.
        summary: what it does, in a line.
        instructions: for each architecture it is launched on, beginnings of SASS opcodes that every build must have.
        at_most: beginnings of opcodes, and how many a build may have of each.
        builds: architecture to the builds that stand for all.
        threads: of a block of a build.
        shared_bytes: dynamic shared memory of a block of a build.
        max_registers: of a thread of a build: what its occupancy was planned with.
    """

    name: str
    summary: str
    instructions: Mapping[str, tuple[str, ...]]
    at_most: Mapping[str, int]
    builds: Callable[[str], tuple[Build, ...]]
    threads: Callable[[Build], int]
    shared_bytes: Callable[[Build], int]
    max_registers: Callable[[Build], int]

    @property
    def architectures(self) -> tuple[str, ...]:
        """Those it is launched on."""
        return tuple(self.instructions)


def _ending(out: torch.dtype, activation: str, parts: int, blocks: int, aligned: bool) -> dict[str, int]:
    one = torch.ones(1, 1, dtype=torch.float32, device="cpu")
    plain = Epilogue(one, one, activation=activation, out_dtype=out)
    return endings.defines(plain, parts=parts, blocks=blocks, aligned=aligned)


_BIAS, _ONE_SCALE = endings.PARTS["bias"], endings.PARTS["one_b_scale"]
_EVERY_PART = sum(endings.PARTS.values()) - _ONE_SCALE


def usual() -> dict[str, int]:
    """Macros of a bf16 result with a bias."""
    return _ending(torch.bfloat16, "none", _BIAS, endings.NO_BLOCKS, True)


def by_block() -> dict[str, int]:
    """Macros of a bf16 result with scales by block."""
    return _ending(torch.bfloat16, "none", 0, endings.BLOCKS_OF_BOTH, True)


def others(codes: torch.dtype) -> list[dict[str, int]]:
    """Ways to end that together have every output, activation and part, aligned and not."""
    ways = (
        (torch.float16, "gelu", _BIAS, True),
        (codes, "gelu_tanh", _BIAS, True),
        (torch.float32, "silu", _ONE_SCALE, False),
        (torch.bfloat16, "none", _EVERY_PART, True),
        (torch.bfloat16, "none", _EVERY_PART, False),
    )
    return [_ending(out, act, parts, endings.NO_BLOCKS, aligned) for out, act, parts, aligned in ways]
