"""Which implementation of an op runs: what each one accepts is data, read by the choice, its explanation and tests.

Nothing falls back silently: the reference is an implementation like the others, listed last, and `explain` says for
every other one why it does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch

from quant.kernels import compiled, reference, torch_mm
from quant.kernels.checks import LARGEST_INT8_K
from quant.kernels.host import mma_gemm, sm90_gemm
from quant.kernels.host import quantize_rows as rows_host


@dataclass(frozen=True)
class Call:
    """What a choice depends on.

    Attributes:
        op: "quantize_rows" or "scaled_mm".
        device: torch device type.
        dtype: of the codes.
        m, n, k: sizes of the matmul; n is 0 for `quantize_rows`.
        capability: CUDA compute capability, None elsewhere.
        block_scales: has the weight a scale for each 128 x 128?
        no_compiled: why this machine runs no compiled kernel; None where it does, or where the call is about another.
    """

    op: str
    device: str
    dtype: torch.dtype
    m: int
    n: int
    k: int
    capability: tuple[int, int] | None = None
    block_scales: bool = False
    no_compiled: str | None = None


@dataclass(frozen=True)
class Limits:
    """What one implementation accepts on one type of device; the defaults accept everything.

    Attributes:
        devices: torch device types; empty for any.
        dtypes: of the codes; empty for any.
        m_at_least, k_at_least: smallest M and K.
        m_at_most, n_at_most, k_at_most: largest M, N and K.
        n_multiple, k_multiple: N and K must be multiples of these.
        capabilities: CUDA compute capabilities; empty for any.
        block_scales: does it take a weight with a scale for each 128 x 128?
    """

    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    m_at_least: int = 0
    k_at_least: int = 0
    m_at_most: int | None = None
    n_at_most: int | None = None
    k_at_most: int | None = None
    n_multiple: int = 1
    k_multiple: int = 1
    capabilities: tuple[tuple[int, int], ...] = ()
    block_scales: bool = True

    def is_about(self, call: Call) -> bool:
        """Do these name the call's device and dtype?"""
        return (not self.devices or call.device in self.devices) and (not self.dtypes or call.dtype in self.dtypes)

    def refusal(self, call: Call) -> str | None:
        """Why `call` is not accepted, in words; None where it is."""
        if self.devices and call.device not in self.devices:
            return f"runs on {', '.join(self.devices)}, not on {call.device}"
        if self.dtypes and call.dtype not in self.dtypes:
            return f"takes {', '.join(map(_short, self.dtypes))}, not {_short(call.dtype)}"
        if self.capabilities and call.capability not in self.capabilities:
            return f"runs on {', '.join(f'sm_{a}{b}' for a, b in self.capabilities)}, not on {_sm(call)}"
        for name, size, least in (("M", call.m, self.m_at_least), ("K", call.k, self.k_at_least)):
            if size < least:
                return f"needs {name} >= {least}, got {size}"
        for name, size, most in (
            ("M", call.m, self.m_at_most),
            ("N", call.n, self.n_at_most),
            ("K", call.k, self.k_at_most),
        ):
            if most is not None and size > most:
                return f"needs {name} <= {most}, got {size}"
        for name, size, multiple in (("N", call.n, self.n_multiple), ("K", call.k, self.k_multiple)):
            if size % multiple:
                return f"needs {name} a multiple of {multiple}, got {size}"
        if call.block_scales and not self.block_scales:
            return "takes one scale a row of the weight, not one for each 128 x 128"
        return None


@dataclass(frozen=True)
class Implementation:
    """A function with the arguments of its op's reference, and where it may run: any one of `limits`.

    Attributes:
        name: of a compiled kernel, that of its source.
        op: which one it implements.
        limits: what it accepts.
        run: the function.
        compiled: is it a CUDA kernel of this project, which needs NVRTC and CuPy?
    """

    name: str
    op: str
    limits: tuple[Limits, ...]
    run: Callable[..., Any]
    compiled: bool = False

    def is_about(self, call: Call) -> bool:
        """Does it name the call's device and dtype?"""
        return any(limits.is_about(call) for limits in self.limits)

    def refusal(self, call: Call) -> str | None:
        """Why it does not run `call`; None where it does. Of several limits, the reason of those it is about."""
        reason = self._limits_refusal(call)
        return call.no_compiled if reason is None and self.compiled else reason

    def _limits_refusal(self, call: Call) -> str | None:
        reasons = [limits.refusal(call) for limits in self.limits]
        if None in reasons:
            return None
        here = [why for each, why in zip(self.limits, reasons, strict=True) if each.is_about(call)]
        return (here or reasons)[0]


_INT8 = (torch.int8,)
_FP8 = (torch.float8_e4m3fn,)
_SM80, _SM86, _SM89, _SM90 = (8, 0), (8, 6), (8, 9), (9, 0)
#: Rows, columns and bytes of K are counted in 32 bits, up to the end of the last tile.
LARGEST_SIZE = 2**31 - 513
_GEMM = Limits(
    devices=("cuda",),
    k_at_least=1,
    m_at_most=LARGEST_SIZE,
    n_at_most=LARGEST_SIZE,
    k_at_most=LARGEST_SIZE,
)
_INT_MM = Limits(dtypes=_INT8, k_at_most=LARGEST_INT8_K, block_scales=False)

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
        (replace(_GEMM, dtypes=_INT8, k_at_most=LARGEST_INT8_K, capabilities=(_SM80, _SM86, _SM89, _SM90)),),
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
                capabilities=(_SM80, _SM86, _SM89, _SM90),
                k_at_least=1,
                k_at_most=rows_host.LARGEST_K,
                m_at_most=rows_host.LARGEST_M,
            ),
        ),
        compiled.quantize_rows,
        compiled=True,
    ),
    Implementation(
        "torch._int_mm",
        "scaled_mm",
        (
            # With K = 1 torch 2.13 returns other numbers than the products.
            replace(_INT_MM, devices=("cpu",), k_at_least=2),
            # What torch asks of cuBLAS there.
            replace(_INT_MM, devices=("cuda",), m_at_least=17, n_multiple=8, k_multiple=8),
        ),
        torch_mm.scaled_mm_int8,
    ),
    Implementation(
        "reference",
        "scaled_mm",
        (Limits(dtypes=_INT8, k_at_most=LARGEST_INT8_K), Limits(dtypes=_FP8)),
        reference.scaled_mm,
    ),
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


def _sm(call: Call) -> str:
    return call.device if call.capability is None else "sm_{}{}".format(*call.capability)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
