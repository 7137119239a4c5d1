"""Which implementation of an op runs: what each one accepts is data, read by the choice, its explanation and tests.

Nothing falls back silently: the reference is an implementation like the others, listed last, and `explain` says for
every other one why it does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from quant.kernels import reference, torch_mm

ROW_MAJOR = "row_major"


@dataclass(frozen=True)
class Call:
    """What a choice depends on.

    Attributes:
        op: "quantize_rows" or "scaled_mm".
        device: torch device type.
        dtype: of the codes.
        m, n, k: sizes of the matmul; n is 0 for `quantize_rows`.
        layout: order of the weight in memory, `ROW_MAJOR` as in a checkpoint.
        capability: CUDA compute capability, None elsewhere.
    """

    op: str
    device: str
    dtype: torch.dtype
    m: int
    n: int
    k: int
    layout: str = ROW_MAJOR
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Limits:
    """What one implementation accepts on one type of device; the defaults accept everything.

    Attributes:
        devices: torch device types; empty for any.
        dtypes: of the codes; empty for any.
        m_at_least, k_at_least: smallest M and K.
        n_multiple, k_multiple: N and K must be multiples of these.
        layout: order of the weight it reads.
        capabilities: CUDA compute capabilities; empty for any.
    """

    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    m_at_least: int = 0
    k_at_least: int = 0
    n_multiple: int = 1
    k_multiple: int = 1
    layout: str = ROW_MAJOR
    capabilities: tuple[tuple[int, int], ...] = ()

    def refusal(self, call: Call) -> str | None:
        """Why `call` is not accepted, in words; None where it is."""
        if self.devices and call.device not in self.devices:
            return f"runs on {', '.join(self.devices)}, not on {call.device}"
        if self.dtypes and call.dtype not in self.dtypes:
            return f"takes {', '.join(map(_short, self.dtypes))}, not {_short(call.dtype)}"
        if self.capabilities and call.capability not in self.capabilities:
            return f"needs one of sm_{', sm_'.join(f'{a}{b}' for a, b in self.capabilities)}"
        for name, size, least in (("M", call.m, self.m_at_least), ("K", call.k, self.k_at_least)):
            if size < least:
                return f"needs {name} >= {least}, got {size}"
        for name, size, multiple in (("N", call.n, self.n_multiple), ("K", call.k, self.k_multiple)):
            if size % multiple:
                return f"needs {name} a multiple of {multiple}, got {size}"
        if call.layout != self.layout:
            return f"reads weights in the order '{self.layout}', not '{call.layout}'"
        return None


@dataclass(frozen=True)
class Implementation:
    """A function with the arguments of its op's reference, and where it may run: any one of `limits`."""

    name: str
    op: str
    limits: tuple[Limits, ...]
    run: Callable[..., Any]

    def refusal(self, call: Call) -> str | None:
        """Why it does not run `call`; None where it does. Of several limits, the reason of those for its device."""
        reasons = [limits.refusal(call) for limits in self.limits]
        if None in reasons:
            return None
        here = [reason for limits, reason in zip(self.limits, reasons, strict=True) if call.device in limits.devices]
        return (here or reasons)[0]


#: Best first. The references accept everything and come last.
IMPLEMENTATIONS: tuple[Implementation, ...] = (
    Implementation(
        "torch._int_mm",
        "scaled_mm",
        (
            # With K = 1 torch 2.13 returns other numbers than the products.
            Limits(devices=("cpu",), dtypes=(torch.int8,), k_at_least=2),
            # What torch asks of cuBLAS there.
            Limits(devices=("cuda",), dtypes=(torch.int8,), m_at_least=17, n_multiple=8, k_multiple=8),
        ),
        torch_mm.scaled_mm_int8,
    ),
    Implementation("reference", "scaled_mm", (Limits(),), reference.scaled_mm),
    Implementation("reference", "quantize_rows", (Limits(),), reference.quantize_rows),
)


def explain(call: Call) -> list[tuple[Implementation, str | None]]:
    """Every implementation of the call's op, best first, each with the reason why it cannot run or None."""
    return [(each, each.refusal(call)) for each in IMPLEMENTATIONS if each.op == call.op]


def choose(call: Call) -> Implementation:
    """The best implementation that accepts `call`.

    Raises:
        ValueError: none does; the message has every reason.
    """
    reasons = []
    for implementation, refusal in explain(call):
        if refusal is None:
            return implementation
        reasons.append(f"{implementation.name} {refusal}")
    raise ValueError(f"no implementation of {call.op} runs {call}: {'; '.join(reasons) or 'there is none'}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
