"""What is assumed of the hardware, each number with its source: the one place for everything that reckons clocks.

None of these was measured by this project. What a GPU measures replaces the number and its source here.
Peaks, registers and sizes of memories are facts of data sheets, and stand in `runtime.architectures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Assumed(NamedTuple):
    """A number that is believed and was not measured here.

    Attributes:
        value: the number.
        unit: of what.
        source: why it is believed.
    """

    value: float
    unit: str
    source: str


_LUO = "Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture, arXiv 2402.13499"
_GUESS = "a guess: nobody has measured it"

#: By a name that says what it is.
ASSUMED: Mapping[str, Assumed] = MappingProxyType(
    {
        "shared_bytes": Assumed(
            128, "bytes a clock of a multiprocessor's shared memory", "32 banks of 4 bytes: CUDA programming guide"
        ),
        "port_bytes": Assumed(
            64,
            "bytes a clock into a multiprocessor, multicast ones too",
            "the width of its port to the L2 cache since Volta, by microbenchmarks of others; not confirmed for TMA",
        ),
        "l2_bytes_ampere": Assumed(
            32,
            "bytes a clock of the L2 cache for one multiprocessor",
            "an A100's 5.1 TB/s for 108 of them at 1.41 GHz",
        ),
        "l2_bytes_hopper": Assumed(
            39,
            "bytes a clock of the L2 cache for one multiprocessor, at least",
            "what DeepGEMM's published 1550 TFLOPS on an H800 ask of it: tiles of 128 x 128 in pairs, at 1.755 GHz",
        ),
        "not_overlapped": Assumed(
            0.25, "part of the shorter of two things at one time that is waited for all the same, by cp.async", _GUESS
        ),
        "not_overlapped_hopper": Assumed(
            0.001,
            "the same by the copy engine",
            "a guess: of two tiles that are equal otherwise, the one with less traffic is taken",
        ),
        "shortest_step": Assumed(128, "clocks of a step that waits more than it works", _GUESS),
        "fill_ampere": Assumed(2000, "clocks of a block while its first step arrives and its last one ends", _GUESS),
        "finish_hopper": Assumed(16, "clocks of an epilogue that was not counted, for each sum of a thread", _GUESS),
        "fixed": Assumed(
            2500,
            "clocks of a tile on Hopper beside its loop and its epilogue",
            "what fits DeepGEMM's published rates over K, with 200 to 300 clocks for its own epilogue",
        ),
        "schedulers": Assumed(
            4, "of a multiprocessor, each of which issues one instruction a clock", "CUDA programming guide"
        ),
        "slow_results": Assumed(
            16,
            "results a clock of special functions and of conversions",
            "CUDA programming guide, throughput of native arithmetic instructions, 8.0 to 9.0",
        ),
        "branch": Assumed(8, "clocks until a branch that is taken has its next instruction", _GUESS),
        "operands_read": Assumed(14, "clocks until an instruction has read its registers, at the most", _GUESS),
    }
)


def value(name: str) -> float:
    """An assumed number by its name."""
    return ASSUMED[name].value


#: Clocks until the result of an instruction of varying latency is there, by the beginning of its opcode; those of fixed
#: latency have it in their stall count. Global memory is taken to be in the L1 cache, because every warp reads the same
#: scales and bias, but for a loop beside which something throws that cache away. A wait for another warp or for the
#: copy engine takes no longer than its own instruction.
LATENCIES: Mapping[str, Assumed] = MappingProxyType(
    {
        "LDG": Assumed(38, "clocks", f"{_LUO}: L1 38 on an A100, 41 on an H100"),
        "LDS": Assumed(29, "clocks", f"{_LUO}: shared memory 29 on both"),
        "LDSM": Assumed(33, "clocks", "as LDS, and four rows"),
        "LDC": Assumed(26, "clocks", _GUESS),
        "S2R": Assumed(25, "clocks", _GUESS),
        "S2UR": Assumed(25, "clocks", _GUESS),
        "R2UR": Assumed(12, "clocks", _GUESS),
        "MUFU": Assumed(22, "clocks", _GUESS),
        "F2F": Assumed(22, "clocks", _GUESS),
        "F2I": Assumed(22, "clocks", _GUESS),
        "I2F": Assumed(22, "clocks", _GUESS),
        "POPC": Assumed(22, "clocks", _GUESS),
        "BAR": Assumed(25, "clocks", _GUESS),
        "SYNCS": Assumed(20, "clocks", _GUESS),
        "STG": Assumed(18, "clocks", _GUESS),
        "STS": Assumed(18, "clocks", _GUESS),
        "STSM": Assumed(20, "clocks", _GUESS),
        "MEMBAR": Assumed(30, "clocks", _GUESS),
        "": Assumed(20, "clocks", _GUESS),
    }
)
#: The same of global memory that is in the L2 cache.
L2_LATENCY = Assumed(263, "clocks", f"{_LUO}: 262 on an A100, 263 on an H100")
#: Beginnings of opcodes that are done at "slow_results".
SLOW = ("MUFU", "F2F", "F2I", "I2F", "POPC")
#: Dense 8-bit products a clock of `mma.sync` as a share of the architecture's, where it is not all of them.
MATRIX_SHARES: Mapping[tuple[str, str], Assumed] = MappingProxyType(
    {
        ("sm_89", "QMMA"): Assumed(
            0.5, "of INT8's rate", "NVIDIA Ada GPU architecture white paper: FP8 with FP32 accumulation on GeForce"
        ),
    }
)
