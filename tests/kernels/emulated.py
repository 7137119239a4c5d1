"""The CUDA kernels run by the emulator: the host side's own plans, so that both sides of a launch are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.base import T, Tile
from quant.kernels.matmuls.gemm import Gemm
from quant.kernels.runtime.launch import Launch
from tests.emulator.emulator import Counts, compile_kernel
from tests.kernels.packed_cases import KINDS, Case


def multiply(
    kernel: Gemm[T],
    a: torch.Tensor,
    b: torch.Tensor,
    epilogue: Epilogue,
    tile: T,
    *,
    arch: str | None = None,
    multiprocessors: int = 4,
    seed: int = 0,
    copies: str = "random",
    sources: Mapping[str, str] | None = None,
) -> tuple[torch.Tensor, Counts]:
    """`scaled_mm` by one of the matmul kernels; the result is poisoned before, so what is not written shows.

    Args:
        kernel, a, b, epilogue, tile: what to compute, and how.
        arch: to compile for; the kernel's first where not given.
        multiprocessors: of the GPU; few, so that the persistent blocks of Hopper have several tiles each.
        seed, copies, sources: as the emulator has them.
    """
    planned = kernel.plan(a, b, epilogue, tile, multiprocessors=multiprocessors)
    poison(planned.out)
    arch = arch or kernel.architectures[0]
    counts = launched(planned.launch, planned.held, [planned.out], arch, seed, copies, sources)
    return planned.out, counts


def multiply_packed(
    case: Case,
    tile: Tile,
    *,
    arch: str | None = None,
    multiprocessors: int = 4,
    seed: int = 0,
    copies: str = "random",
    sources: Mapping[str, str] | None = None,
) -> tuple[torch.Tensor, Counts]:
    """A case by its kernel; arguments as of `multiply`."""
    kernel = KINDS[case.kernel]
    planned = kernel.plan(case.a, case.weight, case.epilogue, tile, multiprocessors=multiprocessors)
    poison(planned.out)
    first = kernel.architectures[0]
    counts = launched(planned.launch, planned.held, [planned.out], arch or first, seed, copies, sources)
    return planned.out, counts


def quantize(
    x: torch.Tensor,
    dtype: torch.dtype,
    scale: torch.Tensor | None = None,
    prologue: Prologue | None = None,
    *,
    arch: str = "sm_80",
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, Counts]:
    """`quantize_rows` by its kernel; results are poisoned before."""
    planned = rows_host.plan(x, dtype, scale, prologue or Prologue())
    if planned.launch.grid:
        poison(planned.codes)
        poison(planned.scale)
    counts = launched(planned.launch, planned.held, [planned.codes, planned.scale], arch, seed, "random", sources)
    return planned.codes, planned.scale, counts


def launched(
    launch: Launch,
    held: Sequence[torch.Tensor],
    results: Sequence[torch.Tensor],
    arch: str,
    seed: int,
    copies: str,
    sources: Mapping[str, str] | None,
) -> Counts:
    """Runs a launch on the CPU; only `results` may be written. No blocks: nothing happens, as on a GPU."""
    if launch.grid == 0:
        return Counts(*[0] * len(Counts.__dataclass_fields__))
    written = {id(result) for result in results}
    buffers = [(tensor, id(tensor) in written) for tensor in {id(each): each for each in held}.values()]
    program = compile_kernel(launch.build, arch, sources=sources)
    return program.run(launch, buffers, seed=seed, copies=copies)


def poison(result: torch.Tensor) -> None:
    """A bit pattern that no kernel writes by chance: NaN in every float dtype, -128 as a code."""
    result.view(torch.uint8 if result.itemsize == 1 else result.dtype).fill_(
        128 if result.itemsize == 1 else float("nan")
    )
