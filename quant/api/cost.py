"""`quant kernels cost`: what kernels take, counted from their machine code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from quant.errors import KernelChoiceError
from quant.kernels.cost.assumed import ASSUMED, L2_LATENCY, LATENCIES, MATRIX_SHARES
from quant.kernels.cost.cases import ENDINGS, Case, Ending, Size, cases
from quant.kernels.cost.counting import Cost, costs
from quant.kernels.matmuls.table import matmuls
from quant.kernels.runtime import nvrtc
from quant.kernels.runtime.errors import KernelError

#: What stands above every table of it.
LABEL = "Counted from machine code, not measured"


class CountedCosts(NamedTuple):
    """What was counted.

    Attributes:
        costs: of every matmul.
        label: what it is, in words.
    """

    costs: tuple[Cost, ...]
    label: str = LABEL

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with what is assumed of the hardware and the compiler's version."""
        latencies = {f"latency {name or 'of others'}": each for name, each in LATENCIES.items()}
        shares = {f"rate {' '.join(name)}": each for name, each in MATRIX_SHARES.items()}
        assumed = {**ASSUMED, **latencies, "latency L2": L2_LATENCY, **shares}
        return {
            "what": self.label,
            "nvrtc": "{}.{}".format(*nvrtc.version()),
            "assumed": {name: each._asdict() for name, each in assumed.items()},
            "costs": [each.to_dict() for each in self.costs],
        }


def wanted(
    kernel: str | None, arch: str | None, sizes: Iterable[tuple[int, int, int]], endings: Iterable[Ending] = ENDINGS
) -> list[Case]:
    """The matmuls of these sizes (M, N, K), by the kernels that would run them.

    Args:
        kernel: its name; None for each that is cut into tiles.
        arch: such as "sm_90a"; None for each that the kernel is launched on.
        sizes: of matmuls.
        endings: what may follow them.

    Raises:
        KernelChoiceError: there is no such kernel, or it runs none of the sizes there.
    """
    every = matmuls()
    if kernel is not None and kernel not in every:
        raise KernelChoiceError(f"no kernel with tiles is called '{kernel}'; there are {', '.join(every)}")
    asked = [Size(*size) for size in sizes]
    found = [
        case
        for each in every.values()
        for name in each.architectures
        if kernel in (None, each.name) and arch in (None, name)
        for case in cases(each, name, asked, tuple(endings))
    ]
    if not found:
        where = arch or "any GPU"
        raise KernelChoiceError(f"{kernel or 'no kernel'} is the first choice for none of these sizes on {where}")
    return found


def counted(cases: Sequence[Case]) -> CountedCosts:
    """What these take.

    Raises:
        KernelChoiceError: the compiler or the disassembler is missing.
    """
    try:
        return CountedCosts(tuple(costs(cases)))
    except KernelError as error:
        raise KernelChoiceError(str(error)) from None
