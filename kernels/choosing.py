"""The choice among the implementations of an op, and what is reported of it; `dispatch` is the same for all ops.

Nothing falls back silently: the reference is an implementation like the others, listed last, and on a GPU a warning
comes once for each reason why no compiled kernel runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache

import torch

from quant.kernels.limits import Call, Implementation
from quant.kernels.runtime import availability

#: Names of the implementations that may run; empty for any. `dispatch.only` sets it.
wanted: ContextVar[tuple[str, ...]] = ContextVar("only", default=())


@contextmanager
def among(*names: str) -> Iterator[None]:
    """Within it, only implementations of these names run."""
    token = wanted.set(names)
    try:
        yield
    finally:
        wanted.reset(token)


def on_device(call: Call, device: torch.device) -> Call:
    """`call` with what this machine has to say of `device`."""
    if device.type != "cuda":
        return call
    capability = torch.cuda.get_device_capability(device)
    return replace(call, capability=capability, no_compiled=availability.reason(device))


def choose(call: Call, implementations: Iterable[Implementation]) -> Implementation:
    """The first that accepts `call`, of those that are wanted.

    Raises:
        ValueError: none does; the message has every reason.
    """
    names = wanted.get()
    reasons = []
    for implementation in implementations:
        if names and implementation.name not in names:
            continue
        refusal = implementation.refusal(call)
        if refusal is None:
            return implementation
        reasons.append(f"{implementation.name} {refusal}")
    asked = f"of those asked for ({', '.join(names)}) " if names else ""
    raise ValueError(f"no implementation {asked}of {call.op} runs {call}: {'; '.join(reasons) or 'there is none'}")


def chosen(call: Call, implementations: tuple[Implementation, ...]) -> Implementation:
    """`choose`. On a GPU, warns of one that is not a compiled kernel, once for each reason."""
    found = choose(call, implementations)
    if call.device == "cuda" and not found.compiled:
        ours = [(each, each.refusal(call)) for each in implementations if each.compiled and each.is_about(call)]
        if all(why is not None for _, why in ours):  # else someone asked for another than the best
            _warn(call.op, found.name, "; ".join(f"{each.name} {why}" for each, why in ours))
    return found


@cache
def _warn(op: str, name: str, reasons: str) -> None:
    why = reasons or "it has none for this op and dtype"
    warnings.warn(f"{op} runs by {name}, not by a kernel of quant: {why}", stacklevel=2)
