"""What a CUDA kernel is to everything else: one row of the table, an instance of the skeleton that it is made of.

A skeleton is a class in a file of its own: how work is cut up, compiled, launched, and what its machine code must be.
Its rows stand at the end of that file; `table.KERNELS` lists them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.cost.assumed import MATRIX_SHARES
from quant.kernels.cost.model import Work, clocks
from quant.kernels.host.operands import Multiplied
from quant.kernels.limits import Limits
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.runtime.launch import Build, Launch

INT8, FP8 = torch.int8, torch.float8_e4m3fn
#: Of 16 bits, as most kernels take floats.
FLOATS_16 = (torch.bfloat16, torch.float16)
EVERYWHERE = tuple(ARCHITECTURES)
#: Rows, columns and bytes of K are counted in 32 bits, up to the end of the last tile.
LARGEST_SIZE = 2**31 - 513
#: What every matmul kernel accepts of sizes.
ANY_SIZE = Limits(k_at_least=1, m_at_most=LARGEST_SIZE, n_at_most=LARGEST_SIZE, k_at_most=LARGEST_SIZE)
#: Beginnings of SASS opcodes: of a warpgroup's products, which the multiprocessor's units do together.
WGMMA = ("HGMMA", "IGMMA", "QGMMA")
#: Beginnings of SASS opcodes: units that no other kernel than one for them should need, and a slow path to their sums.
_MATRIX_UNITS = ("HMMA", "IMMA", "QMMA", *WGMMA, "IDP")


class Tile(Protocol):
    """How a matmul is cut into blocks: a named tuple of whole numbers, the macros of a skeleton."""

    def __init__(self, *sizes: int) -> None: ...

    @property
    def m(self) -> int:
        """Rows of the result that a block computes."""

    @property
    def n(self) -> int:
        """Columns of the result that a block computes."""

    @property
    def threads(self) -> int:
        """Threads of a block."""

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""

    def __iter__(self) -> Iterator[int]: ...


T = TypeVar("T", bound=Tile)


class Planned(Protocol):
    """A launch and what it fills."""

    @property
    def launch(self) -> Launch:
        """What to run."""

    @property
    def result(self) -> Any:
        """What the op returns, allocated and not yet filled."""

    @property
    def held(self) -> list[torch.Tensor]:
        """Tensors whose addresses are in the launch."""


class Gpu(NamedTuple):
    """What a launch is planned for.

    Attributes:
        multiprocessors: how many it has.
        tile: the tile of a kernel, by the kernel, M, N, K, and whether the weight has fine scales: see `Matmul.tiles`.
    """

    multiprocessors: int
    tile: Callable[[Matmul[Any], int, int, int, bool], Any]


@dataclass(frozen=True, eq=False)
class Kernel(ABC):
    """One source file in `kernels/cuda`.

    Attributes:
        name: of the file, of its entry point and of its implementation in `dispatch`.
        op: which one it implements.
        summary: what it does, in a line.
        dtypes: that its op's input has or, of `quantize_rows`, that it makes.
        architectures: those it is launched on, the oldest first.
        own_limits: what else it accepts.
        instruction: beginning of the SASS opcode of its products, which every build must have; empty where it has none.
        other_instructions: beginnings of the other opcodes that every build of a skeleton must have.
        rare: beginnings of opcodes, and how many a build of a skeleton may have of each.
    """

    name: str
    op: str
    summary: str
    dtypes: tuple[torch.dtype, ...]
    architectures: tuple[str, ...]
    own_limits: Limits
    instruction: str = ""

    other_instructions: ClassVar[tuple[str, ...]] = ()
    rare: ClassVar[Mapping[str, int]] = {}

    def __str__(self) -> str:
        return self.name

    @property
    def limits(self) -> Limits:
        """What it accepts."""
        capabilities = tuple(ARCHITECTURES[each].capability for each in self.architectures)
        return replace(self.own_limits, devices=("cuda",), dtypes=self.dtypes, capabilities=capabilities)

    @property
    def instructions(self) -> dict[str, tuple[str, ...]]:
        """For each architecture, beginnings of SASS opcodes that every build must have."""
        own = (self.instruction,) if self.instruction else ()
        return dict.fromkeys(self.architectures, (*own, *self.other_instructions))

    @property
    def at_most(self) -> dict[str, int]:
        """Beginnings of SASS opcodes, and how many a build may have of each."""
        unit = self.instruction.split(".")[0]
        return {**{each: 0 for each in _MATRIX_UNITS if each != unit}, **self.rare}

    @abstractmethod
    def planned(self, gpu: Gpu, *operands: Any, **named: Any) -> Planned:
        """A launch on a GPU, by the arguments of its op's reference."""

    @abstractmethod
    def builds(self, arch: str) -> tuple[Build, ...]:
        """The builds that stand for all on an architecture."""

    @abstractmethod
    def threads(self, build: Build) -> int:
        """Threads of a block of a build."""

    @abstractmethod
    def shared_bytes(self, build: Build) -> int:
        """Dynamic shared memory of a block of a build."""

    @abstractmethod
    def max_registers(self, build: Build) -> int:
        """Registers of a thread of a build, with which its occupancy was planned."""


class Matmul(Kernel, Generic[T]):
    """A kernel of a matmul, which is cut into tiles.

    Attributes:
        tile: makes a tile of its numbers.
        macros: their names in a build.
    """

    tile: type[T]
    macros: ClassVar[tuple[str, ...]]

    @abstractmethod
    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[T]:
        """The tiles that fit.

        Args:
            architecture: whose shared memory they must fit.
            fine_scales: has the weight scales by block, or by groups of less than 128 columns?
        """

    @abstractmethod
    def bytes_of(self, tile: T) -> int:
        """Dynamic shared memory of a block."""

    @abstractmethod
    def work(self, tile: T, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> Work:
        """What the blocks of out [m, n] = a [m, k] b [n, k]^T do."""

    @abstractmethod
    def epilogue_rounds(self, tile: T) -> int:
        """How often a thread goes round each loop of its epilogue."""

    def clocks(self, tile: T, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> float:
        """What the model of the hardware expects of out [m, n] = a [m, k] b [n, k]^T, in clocks."""
        return clocks(self.work(tile, m, n, k, architecture, multiprocessors), multiprocessors).total

    def rate(self, architecture: Architecture) -> float:
        """Dense 8-bit products that a multiprocessor multiplies by the kernel's instruction in a clock."""
        unit = self.instruction.split(".")[0]
        if unit in WGMMA:  # twice as fast as the mma.sync that the architecture's figure is about
            return 2.0 * architecture.products_per_clock
        share = MATRIX_SHARES.get((architecture.name, unit))
        return architecture.products_per_clock * (1.0 if share is None else share.value)

    @abstractmethod
    def plan(self, a: torch.Tensor, weight: Any, epilogue: Epilogue, tile: T, *, multiprocessors: int) -> Multiplied:
        """A matmul a [M, K] weight [N, K]^T as a launch, with its result allocated and not yet filled.

        Args:
            a: codes or floats, of one of its dtypes.
            weight: in its layout.
            epilogue: scales of rows and columns, and what follows.
            tile: how to cut it.
            multiprocessors: of the device.
        """

    @abstractmethod
    def random_weight(self, n: int, k: int, device: torch.device) -> tuple[Any, torch.Tensor]:
        """A weight [n, k] in its layout and the epilogue's scales of its rows, to measure with."""

    def sums_kept(self, *, by_block: bool = False) -> int:
        """How often a thread keeps its sums: twice FP8's, and those of codes that are scaled by block or by group."""
        by_group = INT8 in self.dtypes and bool(self.own_limits.group_sizes)
        return 2 if FP8 in self.dtypes or by_group or by_block else 1

    def tile_of(self, build: Build) -> T:
        """The tile of a build."""
        sizes = dict(build.defines)
        return self.tile(*(sizes[name] for name in self.macros))

    def build(self, tile: T, *defines: Mapping[str, int]) -> Build:
        """What to compile for a tile with these macros behind its own."""
        own = zip(self.macros, tile, strict=True)
        return Build(self.name, (*own, *(item for each in defines for item in each.items())))

    def threads(self, build: Build) -> int:
        return self.tile_of(build).threads

    def shared_bytes(self, build: Build) -> int:
        return self.bytes_of(self.tile_of(build))
