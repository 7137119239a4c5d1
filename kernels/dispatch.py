"""Which implementation of an op runs: what each one accepts is data, read by the choice, its explanation and tests.

Nothing falls back silently: the reference is an implementation like the others, listed last, and `explain` says for
every other one why it does not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

import torch

from quant.kernels import compiled, reference, reference_packed, reference_sparse, torch_mm
from quant.kernels.checks import CODES, FLOATS, LARGEST_INT8_K
from quant.kernels.limits import Call as Call
from quant.kernels.limits import Implementation as Implementation
from quant.kernels.limits import Limits as Limits
from quant.kernels.matmuls import table

_INT8 = (torch.int8,)
_FP8 = (torch.float8_e4m3fn,)
#: Where torch 2.13 multiplies INT8 on a CPU: with K = 1 it returns other numbers than the products.
_INT_MM_CPU = Limits(devices=("cpu",), dtypes=_INT8, k_at_least=2)

#: Best first. The references accept everything and come last.
IMPLEMENTATIONS: tuple[Implementation, ...] = (
    *(compiled.implementation(kernel) for kernel in table.KERNELS),
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
