"""Which implementation of an op runs: what each one accepts is data, read by the choice, its explanation and tests.

Nothing falls back silently: the reference is an implementation like the others, listed last, and `explain` says for
every other one why it does not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial

import torch

from quant.kernels import compiled, reference, reference_packed, reference_sparse, swap_kinds, torch_mm
from quant.kernels.checks import CODES, FLOATS, LARGEST_INT8_K
from quant.kernels.layouts import int4_fragments, mma_sparse24, wgmma_sparse24
from quant.kernels.limits import Call as Call
from quant.kernels.limits import Implementation as Implementation
from quant.kernels.limits import Limits as Limits
from quant.kernels.matmuls import mma_gemm, sm90_gemm
from quant.kernels.matmuls import quantize_rows as rows_host

_INT8 = (torch.int8,)
_FP8 = (torch.float8_e4m3fn,)
#: Where torch 2.13 multiplies INT8 on a CPU: with K = 1 it returns other numbers than the products.
_INT_MM_CPU = Limits(devices=("cpu",), dtypes=_INT8, k_at_least=2)
_ALL = _SM80, _SM86, _SM89, _SM90 = (8, 0), (8, 6), (8, 9), (9, 0)
#: Rows, columns and bytes of K are counted in 32 bits, up to the end of the last tile.
LARGEST_SIZE = 2**31 - 513
_GEMM = Limits(
    devices=("cuda",),
    k_at_least=1,
    m_at_most=LARGEST_SIZE,
    n_at_most=LARGEST_SIZE,
    k_at_most=LARGEST_SIZE,
)

#: Sums of 4-bit codes are kept 16 times too large: K * 127 * 8 * 16 < 2**31.
LARGEST_W4A8_K = (2**31 - 1) // (127 * 8 * 16)
#: Few tokens of 4-bit weights run by warps that share K, on Hopper too.
_FEW_ROWS = 32
#: Kernels with the weight as left operand: name, compute capabilities, K and M that they are offered for.
_SWAPPED = (
    (swap_kinds.HOPPER_SPARSE_INT8, (_SM90,), LARGEST_INT8_K, 0),
    (swap_kinds.HOPPER_SPARSE_FP8, (_SM90,), LARGEST_SIZE, 0),
    (swap_kinds.HOPPER_SPARSE_FLOATS, (_SM90,), LARGEST_SIZE // 2, 0),
    (swap_kinds.SPARSE_INT8, _ALL, LARGEST_INT8_K, 0),
    (swap_kinds.SPARSE_FP8, (_SM89,), LARGEST_SIZE, 0),
    (swap_kinds.SPARSE_FLOATS, _ALL, LARGEST_SIZE // 2, 0),
    (swap_kinds.HOPPER_W4A16, (_SM90,), LARGEST_SIZE // 2, _FEW_ROWS + 1),
    (swap_kinds.HOPPER_W4A8, (_SM90,), LARGEST_W4A8_K, _FEW_ROWS + 1),
    (swap_kinds.HOPPER_W4AFP8, (_SM90,), LARGEST_SIZE, 0),
    (swap_kinds.W4A16, _ALL, LARGEST_SIZE // 2, 0),
    (swap_kinds.W4A8, _ALL, LARGEST_W4A8_K, 0),
    (swap_kinds.W4AFP8, (_SM89,), LARGEST_SIZE, 0),
)


def _by_packed(name: str, capabilities: tuple[tuple[int, int], ...], largest_k: int, least_m: int) -> Implementation:
    kind = swap_kinds.KINDS[name]
    if kind.sparse:
        own = replace(_GEMM, layouts=(wgmma_sparse24.NAME if kind.hopper else mma_sparse24.NAME,))
    else:
        layout = int4_fragments.NAME_16 if kind.in_bytes == 2 else int4_fragments.NAME_8
        own = replace(_GEMM, layouts=(layout,), group_sizes=(32, 64, 128))
    limits = replace(own, dtypes=kind.dtypes, capabilities=capabilities, k_at_most=largest_k, m_at_least=least_m)
    return Implementation(name, kind.op, (limits,), partial(compiled.by_packed, name), compiled=True)


#: Best first. The references accept everything and come last.
IMPLEMENTATIONS: tuple[Implementation, ...] = (
    *(
        Implementation(
            name,
            "scaled_mm",
            (replace(_GEMM, dtypes=dtypes, k_at_most=most, capabilities=(_SM90,)),),
            run,
            compiled=True,
        )
        for name, dtypes, most, run in (
            (sm90_gemm.INT8, _INT8, LARGEST_INT8_K, compiled.scaled_mm_int8_sm90),
            (sm90_gemm.FP8, _FP8, LARGEST_SIZE, compiled.scaled_mm_fp8_sm90),
        )
    ),
    Implementation(
        mma_gemm.INT8,
        "scaled_mm",
        (replace(_GEMM, dtypes=_INT8, k_at_most=LARGEST_INT8_K, capabilities=_ALL),),
        compiled.scaled_mm_int8,
        compiled=True,
    ),
    Implementation(
        mma_gemm.FP8,
        "scaled_mm",
        # Hopper runs the instruction as FP16 on another unit, so it is not offered there.
        (replace(_GEMM, dtypes=_FP8, capabilities=(_SM89,)),),
        compiled.scaled_mm_fp8,
        compiled=True,
    ),
    Implementation(
        rows_host.KERNEL,
        "quantize_rows",
        (
            Limits(
                devices=("cuda",),
                capabilities=_ALL,
                k_at_least=1,
                k_at_most=rows_host.LARGEST_K,
                m_at_most=rows_host.LARGEST_M,
                groups=False,
            ),
        ),
        compiled.quantize_rows,
        compiled=True,
    ),
    Implementation(
        "torch._int_mm",
        "scaled_mm",
        (
            replace(_INT_MM_CPU, k_at_most=LARGEST_INT8_K, block_scales=False),
            # What torch asks of cuBLAS there.
            Limits(
                devices=("cuda",),
                dtypes=_INT8,
                m_at_least=17,
                k_at_most=LARGEST_INT8_K,
                n_multiple=8,
                k_multiple=8,
                block_scales=False,
            ),
        ),
        torch_mm.scaled_mm_int8,
    ),
    *(_by_packed(*each) for each in _SWAPPED),
    Implementation("torch._int_mm", "int4_mm", (_INT_MM_CPU,), torch_mm.int4_mm_int8),
    Implementation(
        "torch._int_mm",
        "sparse_scaled_mm",
        (replace(_INT_MM_CPU, k_at_most=LARGEST_INT8_K),),
        torch_mm.sparse_scaled_mm_int8,
    ),
    Implementation(
        "reference",
        "scaled_mm",
        (Limits(dtypes=_INT8, k_at_most=LARGEST_INT8_K), Limits(dtypes=_FP8)),
        reference.scaled_mm,
    ),
    Implementation(
        "reference",
        "sparse_scaled_mm",
        (Limits(dtypes=_INT8, k_at_most=LARGEST_INT8_K), Limits(dtypes=(*_FP8, *FLOATS))),
        reference_sparse.sparse_scaled_mm,
    ),
    Implementation("reference", "int4_mm", (Limits(dtypes=(*CODES, *FLOATS)),), reference_packed.int4_mm),
    Implementation("reference", "int8_mm", (Limits(dtypes=FLOATS),), reference_packed.int8_mm),
    Implementation("reference", "quantize_rows", (Limits(),), reference.quantize_rows),
)


def explain(call: Call) -> list[tuple[Implementation, str | None]]:
    """Every implementation of the call's op, best first, each with the reason why it cannot run or None."""
    return [(each, each.refusal(call)) for each in IMPLEMENTATIONS if each.op == call.op]


def choose(call: Call) -> Implementation:
    """The best implementation that accepts `call`, of those that `only` names.

    Raises:
        ValueError: none does; the message has every reason.
    """
    wanted = _only.get()
    reasons = []
    for implementation, refusal in explain(call):
        if wanted and implementation.name not in wanted:
            continue
        if refusal is None:
            return implementation
        reasons.append(f"{implementation.name} {refusal}")
    asked = f"of those asked for ({', '.join(wanted)}) " if wanted else ""
    raise ValueError(f"no implementation {asked}of {call.op} runs {call}: {'; '.join(reasons) or 'there is none'}")


_only: ContextVar[tuple[str, ...]] = ContextVar("only", default=())


@contextmanager
def only(*names: str) -> Iterator[None]:
    """Within it, ops run by these implementations or raise ValueError with the reason why they cannot.

    Raises:
        ValueError: a name that no implementation has.
    """
    known = {each.name for each in IMPLEMENTATIONS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no implementation is called '{unknown[0]}'; there are {', '.join(sorted(known))}")
    token = _only.set(names)
    try:
        yield
    finally:
        _only.reset(token)
