"""The wrappers of wgmma, written by a program: the instruction names every register of its sums, 128 of them at most.

`sources.shipped` has the texts with the files of `kernels/cuda`, one header for each way in which the left operand
comes: a kernel is compiled with those that it includes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

#: Columns of a result that kernels use. INT8 takes multiples of 16 above 32 only, FP8 any multiple of 8.
COLUMNS = (32, 64, 128, 192, 256)
#: Names of the headers: both operands in shared memory, the left one sparse, the left one in registers.
DENSE, SPARSE, REGISTERS = "wgmma.cuh", "wgmma_sparse.cuh", "wgmma_registers.cuh"


class _Type(NamedTuple):
    """A type of operands and of its sums: in names, in C++, as a constraint of inline assembly, in PTX."""

    name: str
    sums: str
    constraint: str
    ptx: str
    bits: int
    integers: bool = False


_E4M3 = _Type("e4m3", "float", "+f", "f32.e4m3.e4m3", 8)
_S8 = _Type("s8", "s32", "+r", "s32.s8.s8", 8, integers=True)
_F16 = _Type("f16", "float", "+f", "f32.f16.f16", 16)
_BF16 = _Type("bf16", "float", "+f", "f32.bf16.bf16", 16)


class _Variant(NamedTuple):
    """A variant of the instruction: what the wrappers of one header have in common.

    Attributes:
        head: the beginning of the file.
        types: of its wrappers.
        prefix: of their names.
        instruction: the same in PTX, without shape and types.
        depth: bytes along K of what the left operand is multiplied with.
        parameters: of a wrapper, between the sums and `add`.
        inputs: constraints and expressions of the operands, in order.
        operands: as the instruction names them; {0}, {1}, ... are the inputs.
        transposes: of 16-bit operands, those that may be transposed: none is.
    """

    head: str
    types: tuple[_Type, ...]
    prefix: str
    instruction: str
    depth: int
    parameters: str
    inputs: tuple[str, ...]
    operands: str
    transposes: str


_HEAD = """\
// Made by kernels/runtime/wgmma.py.
//
// sums [64, N] = a [64, 32] b [N, 32]^T, plus the sums before where `add`. Thread T of the warpgroup, g = T % 32 / 4
// and t = T % 4, holds in sums[i] row 16 (T / 32) + g + 8 (i / 2 % 2), column 8 (i / 4) + 2 t + i % 2. Operands are
// descriptors, the same in all threads. They are read, and sums written, at any time until wgmma_wait.
#pragma once
#include "ptx.cuh"
"""

_SPARSE_HEAD = """\
// Made by kernels/runtime/wgmma.py.
//
// sums [64, N] = a [64, K] b [N, K]^T, plus the sums before where `add`; K is 64 of 8 bits or 32 of 16 bits, and a
// keeps two of every four values along it. Sums are held as those of wgmma.cuh. a describes 64 rows of 32 bytes, the
// kept values, b N rows of 64 bytes; descriptors are the same in all threads, and read, and sums written, at any time
// until wgmma_wait. `metadata` of thread T is that of mma_sp_s8 or of mma_sp_f16<0> for the rows from 16 (T / 32): of
// 16 bits, t = 2 and 3 are not asked. Selector 1 would ask them, and nobody has seen it on a GPU.
#pragma once
#include "ptx.cuh"
"""

_REGISTERS_HEAD = """\
// Made by kernels/runtime/wgmma.py.
//
// sums [64, N] = a [64, K] b [N, K]^T, plus the sums before where `add`; K is 32 of 8 bits or 16 of 16 bits. Sums are
// held as those of wgmma.cuh; a is in registers, those of mma_s8 or of mma_f16 for the rows from 16 (T / 32); b is a
// descriptor of N rows of 32 bytes, the same in all threads. All are read, and sums written, at any time until
// wgmma_wait: until then a is a variable that lives and that nobody assigns to.
#pragma once
#include "ptx.cuh"
"""

_VARIANTS: Mapping[str, _Variant] = {
    DENSE: _Variant(
        _HEAD,
        (_E4M3, _S8),
        "wgmma",
        "wgmma.mma_async.sync.aligned",
        32,
        "u64 a, u64 b",
        ('"l"(a)', '"l"(b)'),
        "{0}, {1}",
        "",
    ),
    SPARSE: _Variant(
        _SPARSE_HEAD,
        (_E4M3, _S8, _F16, _BF16),
        "wgmma_sp",
        "wgmma.mma_async.sp.sync.aligned",
        64,
        "u64 a, u64 b, u32 metadata",
        ('"l"(a)', '"l"(b)', '"r"(metadata)'),
        "{0}, {1}, {2}, 0",
        ", 0, 0",  # a and b
    ),
    REGISTERS: _Variant(
        _REGISTERS_HEAD,
        (_E4M3, _S8, _F16, _BF16),
        "wgmma_rs",
        "wgmma.mma_async.sync.aligned",
        32,
        "const u32 (&a)[4], u64 b",
        ('"r"(a[0])', '"r"(a[1])', '"r"(a[2])', '"r"(a[3])', '"l"(b)'),
        "{{{0}, {1}, {2}, {3}}}, {4}",
        ", 0",  # b
    ),
}

_DECLARATION = """\
template <int N>
DEVICE void {name}({type} (&sums)[N / 2], {parameters}, bool add);
"""

_WRAPPER = """
template <>
DEVICE void {name}<{n}>({type} (&sums)[{count}], {parameters}, bool add) {{
  asm volatile(
      "{{\\n.reg .pred add;\\nsetp.ne.b32 add, %{add}, 0;\\n"
      "{instruction}.m64n{n}k{depth}.{types} {{{registers}}}, {operands}, add{signs};\\n}}"
      : {sums}
      : {inputs}, "r"(static_cast<s32>(add)));
}}
"""


@cache
def headers() -> Mapping[str, str]:
    """CUDA C++ that defines a wrapper for every type and every N of `COLUMNS`: name of a header to its text.

    "wgmma.cuh" has `wgmma_e4m3<N>` and `wgmma_s8<N>`; "wgmma_sparse.cuh" and "wgmma_registers.cuh" have `wgmma_sp_` and
    `wgmma_rs_` of e4m3, s8, f16 and bf16.
    """
    return MappingProxyType({name: _header(variant) for name, variant in _VARIANTS.items()})


def _header(variant: _Variant) -> str:
    declarations = "".join(
        _DECLARATION.format(name=f"{variant.prefix}_{kind.name}", type=kind.sums, parameters=variant.parameters)
        for kind in variant.types
    )
    wrappers = "".join(_wrapper(variant, kind, n) for n in COLUMNS for kind in variant.types)
    return f"{variant.head}\n{declarations}{wrappers}"


def _wrapper(variant: _Variant, kind: _Type, n: int) -> str:
    count = n // 2
    inputs = [f"%{count + i}" for i in range(len(variant.inputs))]
    signs = "" if kind.integers else ", 1, 1"  # of a and of b
    return _WRAPPER.format(
        name=f"{variant.prefix}_{kind.name}",
        type=kind.sums,
        parameters=variant.parameters,
        instruction=variant.instruction,
        depth=8 * variant.depth // kind.bits,
        types=kind.ptx,
        n=n,
        count=count,
        registers=", ".join(f"%{i}" for i in range(count)),
        operands=variant.operands.format(*inputs),
        signs=signs + (variant.transposes if kind.bits == 16 else ""),
        sums=", ".join(f'"{kind.constraint}"(sums[{i}])' for i in range(count)),
        inputs=", ".join(variant.inputs),
        add=count + len(inputs),
    )
