"""The wrappers of wgmma, written by a program: the instruction names every register of its sums, 128 of them at most.

`sources.shipped` has the text as "wgmma.cuh", beside the files of `kernels/cuda`.
"""

from __future__ import annotations

from functools import cache

#: Columns of a result that kernels use. INT8 takes multiples of 16 above 32 only, FP8 any multiple of 8.
COLUMNS = (32, 64, 128, 192, 256)
NAME = "wgmma.cuh"

_HEAD = """\
// Made by kernels/runtime/wgmma.py.
//
// sums [64, N] = a [64, 32] b [N, 32]^T, plus the sums before where `add`. Thread T of the warpgroup, g = T % 32 / 4
// and t = T % 4, holds in sums[i] row 16 (T / 32) + g + 8 (i / 2 % 2), column 8 (i / 4) + 2 t + i % 2. Operands are
// descriptors, the same in all threads. They are read, and sums written, at any time until wgmma_wait.
#pragma once
#include "ptx.cuh"

template <int N>
DEVICE void wgmma_e4m3(float (&sums)[N / 2], u64 a, u64 b, bool add);
template <int N>
DEVICE void wgmma_s8(s32 (&sums)[N / 2], u64 a, u64 b, bool add);
"""

_WRAPPER = """
template <>
DEVICE void {name}<{n}>({type} (&sums)[{count}], u64 a, u64 b, bool add) {{
  asm volatile(
      "{{\\n.reg .pred add;\\nsetp.ne.b32 add, %{add}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{n}k32.{types} {{{registers}}}, %{a}, %{b}, add{signs};\\n}}"
      : {sums}
      : "l"(a), "l"(b), "r"(static_cast<s32>(add)));
}}
"""


@cache
def header() -> str:
    """CUDA C++ that defines `wgmma_e4m3<N>` and `wgmma_s8<N>` for every N of `COLUMNS`."""
    return _HEAD + "".join(_wrapper(n, fp8=fp8) for n in COLUMNS for fp8 in (True, False))


def _wrapper(n: int, *, fp8: bool) -> str:
    count = n // 2
    constraint = "+f" if fp8 else "+r"
    return _WRAPPER.format(
        name="wgmma_e4m3" if fp8 else "wgmma_s8",
        type="float" if fp8 else "s32",
        types="f32.e4m3.e4m3" if fp8 else "s32.s8.s8",
        signs=", 1, 1" if fp8 else "",  # of a and of b
        n=n,
        count=count,
        registers=", ".join(f"%{i}" for i in range(count)),
        sums=", ".join(f'"{constraint}"(sums[{i}])' for i in range(count)),
        a=count,
        b=count + 1,
        add=count + 2,
    )
