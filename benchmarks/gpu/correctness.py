"""Is a contestant's result right? A wrong one is listed and not timed."""

from __future__ import annotations

import torch

from benchmarks.gpu.contestants import FORMATS
from benchmarks.gpu.inputs import Codes, Inputs
from quant.kernels.reference import activate

SAMPLES = 256
#: Largest relative error of a result. A matmul of ready operands is off by the rounding of its bf16 result, 0.2%, and
#: by what FP8's accumulation on Hopper drops. With the quantization of normal values it is about 1.4% for INT8 and 3.7%
#: for FP8, twice that with one scale for everything. A weight in four bits is compared with the weight that is left.
BARE, USED = 0.01, {"bf16": 0.01, "int8": 0.04, "fp8": 0.08}
#: A smaller error than this is that of bf16: 8-bit rows of normal values are off by about 1%, less on a single row.
UNQUANTIZED = 0.003
_CHUNK = 4096


def sampled_rows(m: int) -> list[int]:
    """Rows to compare with float64: the ends, where tails go wrong, and an even choice between; each once, in order."""
    if m <= SAMPLES:
        return list(range(m))
    edge = SAMPLES // 4
    between = (edge + i * (m - 2 * edge) // (SAMPLES - 2 * edge) for i in range(SAMPLES - 2 * edge))
    return [*range(edge), *between, *range(m - edge, m)]


def relative_error(out: torch.Tensor, exact: torch.Tensor) -> float:
    """|out - exact| / |exact| over all elements, in float64; nan where `out` has one."""
    exact = exact.double()
    return float((out.double() - exact).norm() / exact.norm())


def rows_of(codes: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Some rows of codes, chosen as bytes: not every device chooses among e4m3."""
    return codes.view(torch.uint8)[rows].view(codes.dtype)


def exact_bare(codes: Codes, rows: list[int]) -> torch.Tensor:
    """The matmul of codes with its scales, float64 [rows, N]."""
    a_scale = codes.a_scale if len(codes.a_scale) == 1 else codes.a_scale[rows]
    return (
        (rows_of(codes.a, rows).double() @ codes.b.double().T)
        * a_scale.double()
        * codes.b_scale.double().reshape(1, -1)
    )


def exact(inputs: Inputs, mode: str, rows: list[int], weight: str = "dense") -> torch.Tensor:
    """What the layer is meant to give, float64 [rows, N]: the matmul, and where it is "used" bias and activation."""
    out = inputs.x[rows].double() @ inputs.weight_of(weight).double().T
    return activate(out + inputs.bias.double(), inputs.shape.activation) if mode == "used" else out


def exact_of(inputs: Inputs, format_name: str, mode: str, rows: list[int], *, one_scale: bool = False) -> torch.Tensor:
    """What a format is held to, float64 [rows, N]: bare, its own codes; else the layer with the weight that it has.

    Args:
        inputs: of the layer.
        format_name: a key of `FORMATS`.
        mode: "bare" or "used".
        rows: some of those of x.
        one_scale: have x and the weight one scale each?
    """
    x, weight = FORMATS[format_name].x, FORMATS[format_name].weight
    if mode == "used" or x == "bf16":
        return exact(inputs, mode, rows, weight)
    if weight != "int4":
        return exact_bare(inputs.codes(x, weight, one_scale=one_scale), rows)
    codes = inputs.codes(x)
    one = torch.ones(1, 1, device=codes.a.device)
    return exact_bare(codes._replace(b=inputs.weight_of(weight), b_scale=one), rows)


def difference(out: torch.Tensor, other: torch.Tensor) -> float:
    """`relative_error` over all of two large results [M, N], a part at a time."""
    square = torch.zeros((), dtype=torch.float64, device=out.device)
    whole = torch.zeros_like(square)
    for start in range(0, len(out), _CHUNK):
        one, two = (each[start : start + _CHUNK].float() for each in (out, other))
        square += (one - two).square().sum(dtype=torch.float64)
        whole += two.square().sum(dtype=torch.float64)
    return float((square / whole).sqrt())


def fault(sampled: float, everywhere: float, format_name: str, mode: str) -> str | None:
    """What is wrong with a result, in words; None where it is right.

    Args:
        sampled: its relative error on the sampled rows, against float64.
        everywhere: its relative difference from torch's bf16 result with the same weight, over all rows.
        format_name: a key of `FORMATS`.
        mode: "bare" or "used".
    """
    x = FORMATS[format_name].x
    limit = BARE if mode == "bare" else USED[x]
    # Written so that nan is a fault.
    if not sampled <= limit:
        return f"relative error {sampled:.2g} on sampled rows; right is up to {limit}"
    if not everywhere <= USED[x]:
        return f"differs by {everywhere:.2g} from torch's bf16 result over all rows; right is up to {USED[x]}"
    if mode == "used" and x != "bf16" and sampled < UNQUANTIZED:
        return f"relative error {sampled:.2g} is that of bf16: nothing was quantized"
    return None
