"""What a call of an op is, and what an implementation accepts, as data that refuses in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Call:
    """What a choice depends on.

    Attributes:
        op: name of one of `ops.OPS`.
        device: torch device type.
        dtype: of the codes that `quantize_rows` makes; of a matmul's `a`, which some take as floats.
        m, n, k: sizes of a matmul; of rows [m, k]; 0 for what an op does not have.
        capability: CUDA compute capability, None elsewhere.
        block_scales: has the weight a scale for each 128 x 128?
        no_compiled: why this machine runs no compiled kernel; None where it does, or where the call is about another.
        group: columns that share a scale, where a row has several: those of the codes that `quantize_rows` makes, those
            of the weight of `int4_mm` and `int8_mm`. 0 where a row has one scale.
        layout: the order that a packed or sparse weight is in, see `weight_orders`; empty where it has none, or where
            it will be put into whichever order the implementation reads.
    """

    op: str
    device: str
    dtype: torch.dtype
    m: int = 0
    n: int = 0
    k: int = 0
    capability: tuple[int, int] | None = None
    block_scales: bool = False
    no_compiled: str | None = None
    group: int = 0
    layout: str = ""


@dataclass(frozen=True)
class Limits:
    """What one implementation accepts on one type of device; the defaults accept everything.

    Attributes:
        devices: torch device types; empty for any.
        dtypes: as `Call.dtype`; empty for any.
        m_at_least, k_at_least: smallest M and K.
        m_at_most, n_at_most, k_at_most: largest M, N and K.
        n_multiple, k_multiple: N and K must be multiples of these.
        capabilities: CUDA compute capabilities; empty for any.
        block_scales: does it take a weight with a scale for each 128 x 128?
        groups: does it take, or make, rows with a scale for each group of columns?
        group_sizes: columns of such a group: one of these, or a multiple of the last; empty for any.
        layouts: as `Call.layout`, the best first; empty for any.
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
    groups: bool = True
    group_sizes: tuple[int, ...] = ()
    layouts: tuple[str, ...] = ()

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
        if call.group and not self.groups:
            does = "takes" if call.n else "finds"  # rows that are quantized have no N
            return f"{does} one scale a row, not one for each {call.group} of K"
        if call.group and self.group_sizes and call.group not in self.group_sizes and call.group % self.group_sizes[-1]:
            sizes = ", ".join(map(str, self.group_sizes[:-1]))
            return f"takes groups of {sizes} or multiples of {self.group_sizes[-1]} columns, not of {call.group}"
        if call.layout and self.layouts and call.layout not in self.layouts:
            return f"reads a weight in the order {' or '.join(self.layouts)}, not {call.layout}"
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
        instead: what it does where a kernel is missing on a GPU, in words; empty of one that is as good as a kernel.
    """

    name: str
    op: str
    limits: tuple[Limits, ...]
    run: Callable[..., Any]
    compiled: bool = False
    instead: str = ""

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


def _sm(call: Call) -> str:
    return call.device if call.capability is None else "sm_{}{}".format(*call.capability)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
