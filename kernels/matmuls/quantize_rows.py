"""The kernel of quantize_rows.cu: rows to codes, with norm and modulation."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import torch

from quant.kernels.arguments import Prologue
from quant.kernels.host.operands import Operands
from quant.kernels.host.structures import DTYPES, NORMS, QuantizeArguments
from quant.kernels.limits import Limits
from quant.kernels.matmuls.base import EVERYWHERE, FP8, INT8, Gpu, Kernel
from quant.kernels.runtime.launch import Build, Launch

#: What a row may hold: the registers of one block.
LARGEST_K = 640 * 5 * 8
LARGEST_M = 2**31 - 5  # rows are counted in 32 bits, up to the end of the last block
_CHUNK = 8  # elements that a thread reads at once
_WARP = 32
_ROWS_OF_A_BLOCK = 4  # where one warp is enough for each


class Quantized(NamedTuple):
    """A launch and what it fills.

    Attributes:
        launch: what to run.
        codes: int8 or float8_e4m3fn, of x's shape.
        scale: float32 [..., 1], or [1, 1] where static.
        held: tensors whose addresses are in the launch.
    """

    launch: Launch
    codes: torch.Tensor
    scale: torch.Tensor
    held: list[torch.Tensor]

    @property
    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the op returns."""
        return self.codes, self.scale


def build(k: int, dtype: torch.dtype, norm: str, *, aligned: bool = True) -> Build:
    """What to compile for rows of `k` elements: few chunks a thread, so that registers allow many threads.

    Args:
        k: elements of a row.
        dtype: of the codes.
        norm: "none", "layer" or "rms".
        aligned: do rows of all operands begin at multiples of 16 bytes?
    """
    chunks = -(-k // _CHUNK)
    each = 4 if chunks <= 512 * 4 else 5
    threads = -(-chunks // (each * _WARP)) * _WARP
    each = -(-chunks // threads)
    rows = _ROWS_OF_A_BLOCK if threads == _WARP else 1
    defines = {
        "CODES": DTYPES[dtype],
        "NORM": NORMS[norm],
        "ALIGNED": int(aligned),
        "THREADS": threads,
        "ROWS": rows,
        "CHUNKS": each,
    }
    return Build(QUANTIZE_ROWS.name, tuple(defines.items()))


def plan(x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue) -> Quantized:
    """The arguments of `reference.quantize_rows` as a launch, with its results allocated and not yet filled."""
    operands = Operands()
    k = x.shape[-1]
    m = x.numel() // max(k, 1)
    codes = torch.empty(x.shape, dtype=dtype, device=x.device)
    found = torch.empty((*x.shape[:-1], 1) if scale is None else (1, 1), dtype=torch.float32, device=x.device)
    if m == 0 and scale is not None:  # no block will run that could write it
        found.copy_(scale.reshape(1, 1))
    rows = operands.rows
    arguments = QuantizeArguments(
        x=rows(x, x.shape),
        norm_weight=rows(prologue.norm_weight, x.shape),
        norm_bias=rows(prologue.norm_bias, x.shape),
        modulation_scale=rows(prologue.modulation_scale, x.shape),
        modulation_shift=rows(prologue.modulation_shift, x.shape),
        pre_quant_scale=rows(prologue.pre_quant_scale, x.shape),
        static_scale=operands.address(scale),
        codes=operands.address(codes),
        scales=operands.address(found),
        m=m,
        k=k,
        eps=prologue.eps,
    )
    built = build(k, dtype, prologue.norm, aligned=operands.aligned and k % _CHUNK == 0)
    sizes = dict(built.defines)
    block = (sizes["THREADS"], sizes["ROWS"])
    launch = Launch(built, -(-m // block[1]), block, shared_bytes(built), arguments)
    return Quantized(launch, codes, found, operands.held)


def shared_bytes(built: Build) -> int:
    """Three reductions over a row, a float for each warp."""
    return 3 * dict(built.defines)["THREADS"] // _WARP * 4


class QuantizeRows(Kernel):
    """The kernel of quantize_rows.cu: rows are read 16 bytes and written 8 codes at a time."""

    other_instructions = ("LDG.E.128", "STG.E.64")

    def planned(self, gpu: Gpu, *operands: Any, **named: Any) -> Quantized:
        x, dtype, scale, prologue = operands
        return plan(x, dtype, scale, prologue)

    def builds(self, arch: str) -> tuple[Build, ...]:
        plain = (build(k, dtype, "layer") for k, dtype in product((256, 5120, LARGEST_K), self.dtypes))
        return (*plain, build(1536, INT8, "none"), build(1536, INT8, "rms"))

    def threads(self, build: Build) -> int:
        return dict(build.defines)["THREADS"] * dict(build.defines)["ROWS"]

    def shared_bytes(self, build: Build) -> int:
        return shared_bytes(build)

    def max_registers(self, build: Build) -> int:
        """At least 640 threads on a multiprocessor, which are one block where rows are longest."""
        return 96


QUANTIZE_ROWS = QuantizeRows(
    name="quantize_rows",
    op="quantize_rows",
    summary="rows to codes, with norm and modulation",
    dtypes=(INT8, FP8),
    architectures=EVERYWHERE,
    own_limits=Limits(k_at_least=1, k_at_most=LARGEST_K, m_at_most=LARGEST_M, groups=False),
)
KERNELS = (QUANTIZE_ROWS,)
