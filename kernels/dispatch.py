"""Which implementation of an op runs: what each one accepts is data, read by the choice, its explanation and tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quant.kernels import choosing, ops
from quant.kernels.limits import Call as Call
from quant.kernels.limits import Implementation as Implementation
from quant.kernels.limits import Limits as Limits


def implementations() -> tuple[Implementation, ...]:
    """Those of every op, the best first; each ends with its reference, which accepts everything."""
    return tuple(each for op in ops.OPS for each in op.implementations())


def explain(call: Call) -> list[tuple[Implementation, str | None]]:
    """Every implementation of the call's op, best first, each with the reason why it cannot run or None."""
    return [(each, each.refusal(call)) for each in implementations() if each.op == call.op]


def choose(call: Call) -> Implementation:
    """The best implementation that accepts `call`, of those that `only` names.

    Raises:
        ValueError: none does; the message has every reason.
    """
    return choosing.choose(call, (each for each in implementations() if each.op == call.op))


@contextmanager
def only(*names: str) -> Iterator[None]:
    """Within it, ops run by these implementations or raise ValueError with the reason why they cannot.

    Raises:
        ValueError: a name that no implementation has.
    """
    known = {each.name for each in implementations()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no implementation is called '{unknown[0]}'; there are {', '.join(sorted(known))}")
    with choosing.among(*names):
        yield
