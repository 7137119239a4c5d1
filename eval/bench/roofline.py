"""The roofline model: an operation takes as long as its arithmetic or its memory traffic, whichever is longer.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009. Launches, tails of grids and caches are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from quant.errors import QuantError
from quant.eval.bench.gpus import MEMORY, Gpu
from quant.eval.bench.operations import ELEMENTWISE, KINDS, Operation

ARITHMETIC = "arithmetic"


class Predicted(NamedTuple):
    """How long an operation takes at least.

    Attributes:
        operation: which.
        seconds: predicted.
        bound: what takes that long, "arithmetic" or "memory".
    """

    operation: Operation
    seconds: float
    bound: str


def predict_operation(operation: Operation, gpu: Gpu) -> Predicted:
    """The time of one operation.

    Raises:
        QuantError: the GPU cannot multiply such numbers.
    """
    memory = operation.nbytes / gpu.rates[MEMORY].achieved
    if operation.kind == ELEMENTWISE:
        return Predicted(operation, memory, MEMORY)
    rate = gpu.rates.get(f"{operation.kind} {operation.numbers}")
    if rate is None:
        inputs = operation.numbers.split()[-1].upper()
        raise QuantError(
            f"{gpu.name} has no {inputs} tensor cores, so no roofline: there {operation.name} runs in plain PyTorch"
        )
    arithmetic = operation.operations / rate.achieved
    return Predicted(operation, max(arithmetic, memory), MEMORY if memory > arithmetic else ARITHMETIC)


def predict_operations(operations: Iterable[Operation], gpu: Gpu) -> tuple[Predicted, ...]:
    """The time of each operation; errors as of `predict_operation`."""
    return tuple(predict_operation(each, gpu) for each in operations)


def total(predicted: Sequence[Predicted]) -> float:
    """Seconds of all, one after the other."""
    return sum(each.seconds for each in predicted)


def by_kind(predicted: Sequence[Predicted]) -> dict[str, float]:
    """Seconds by kind of operation."""
    return {kind: sum(each.seconds for each in predicted if each.operation.kind == kind) for kind in KINDS}
