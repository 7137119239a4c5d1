"""The GPU architectures that kernels are compiled for, as data.

Source: CUDA C++ programming guide, technical specifications per compute capability; the cards' data sheets.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from quant.kernels.runtime.errors import KernelError

_KIB = 1024


class Architecture(NamedTuple):
    """One architecture and the limits of its multiprocessors.

    Attributes:
        name: as the compiler takes it; the "a" of "sm_90a" admits wgmma, TMA and setmaxnreg.
        capability: CUDA compute capability.
        shared_bytes_per_block: most shared memory of a block, static and dynamic, after opting in.
        shared_bytes_per_sm: shared memory of a multiprocessor; each resident block costs 1 KiB besides its own.
        max_threads_per_sm: threads resident on a multiprocessor.
        gpu: a card of this architecture.
        multiprocessors: how many that card has.
        products_per_clock: dense 8-bit multiply-adds of one multiprocessor by `mma.sync`, from the card's published
            rate; on sm_90 half of what wgmma reaches.
        registers_per_sm: 32-bit registers of a multiprocessor.
    """

    name: str
    capability: tuple[int, int]
    shared_bytes_per_block: int
    shared_bytes_per_sm: int
    max_threads_per_sm: int
    gpu: str
    multiprocessors: int
    products_per_clock: int
    registers_per_sm: int = 65536

    @property
    def macro(self) -> int:
        """Value of the macro `ARCH`, as `__CUDA_ARCH__`: 900 for "sm_90a"."""
        major, minor = self.capability
        return major * 100 + minor * 10


_ALL = (
    Architecture("sm_80", (8, 0), 163 * _KIB, 164 * _KIB, 2048, "A100", 108, 2048),
    Architecture("sm_86", (8, 6), 99 * _KIB, 100 * _KIB, 1536, "RTX 3090", 82, 1024),
    Architecture("sm_89", (8, 9), 99 * _KIB, 100 * _KIB, 1536, "RTX 4090", 128, 1024),
    Architecture("sm_90a", (9, 0), 227 * _KIB, 228 * _KIB, 2048, "H100 SXM", 132, 2048),
)

#: By name, oldest first.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({each.name: each for each in _ALL})


def architecture(name: str) -> Architecture:
    """The architecture of this name.

    Raises:
        KernelError: there is none.
    """
    found = ARCHITECTURES.get(name)
    if found is None:
        raise KernelError(f"unknown architecture '{name}'; the kernels are written for {', '.join(ARCHITECTURES)}")
    return found


def of_capability(capability: tuple[int, int]) -> Architecture:
    """The architecture of a device with this compute capability.

    Raises:
        KernelError: the kernels are not written for it.
    """
    for each in _ALL:
        if each.capability == capability:
            return each
    major, minor = capability
    raise KernelError(f"sm_{major}{minor} is not supported; the kernels are written for {', '.join(ARCHITECTURES)}")
