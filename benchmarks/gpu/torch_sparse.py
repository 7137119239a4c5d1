"""What torch has for 2:4 sparse weights: its semi-structured tensors, and cuSPARSELt, which they call, by itself.

By itself, since only so do INT8 and FP8 have their scales: one a row of the weight is the library's `alpha`, one a row
of x is multiplied after it, as torchao does it; "per tensor" leaves that away. cuSPARSELt wants a multiple of so many
tokens: ready codes are padded beforehand, which nobody is charged for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.gpu import expressions
from benchmarks.gpu.contestants import Call, Contestant
from benchmarks.gpu.inputs import DTYPES, Inputs

FORMAT_NAMES = ("bf16", "int8", "fp8")
#: Tokens that cuSPARSELt wants a multiple of, by bytes of an element.
_TOKENS = {2: 8, 1: 16}
_SEARCH = "cuSPARSELt search"


def contestants(inputs: Inputs) -> list[Contestant]:
    """Semi-structured tensors of either library in bf16; cuSPARSELt in every format, on some shapes also searched."""
    absent = missing()
    found = [
        Contestant("torch semi-structured", "2:4 bf16", "bare", _structured(inputs, "CUSPARSELT", bare=True), absent),
        Contestant("torch semi-structured", "2:4 bf16", "used", _structured(inputs, "CUSPARSELT", bare=False), absent),
        Contestant("torch CUTLASS 2:4", "2:4 bf16", "bare", _structured(inputs, "CUTLASS", bare=True)),
    ]
    for format_name in FORMAT_NAMES:
        name = "torch._cslt_sparse_mm"
        found.append(Contestant(name, f"2:4 {format_name}", "bare", _bare(inputs, format_name), absent))
        found.append(Contestant(name, f"2:4 {format_name}", "used", _used(inputs, format_name), absent))
        if format_name != "bf16":
            name = f"{name} per tensor"
            found.append(
                Contestant(name, f"2:4 {format_name}", "bare", _bare(inputs, format_name, one_scale=True), absent)
            )
        if inputs.shape.autotuned:
            searched = _bare(inputs, format_name, one_scale=format_name != "bf16", search=True)
            found.append(Contestant(f"{name} searched", f"2:4 {format_name}", "bare", searched, absent, _SEARCH))
    return found


def missing() -> str | None:
    """That torch has no cuSPARSELt, in words; None where it has."""
    try:
        there = bool(import_module("torch.backends.cusparselt").is_available())
    except (ImportError, AttributeError):
        there = False
    return None if there else "this torch has no cuSPARSELt"


def padded(x: torch.Tensor) -> torch.Tensor:
    """x [M, K] with rows of zeros up to what cuSPARSELt takes; itself where that is M."""
    more = -len(x) % _TOKENS[x.itemsize]
    if not more:
        return x
    bits = x.view(torch.int8) if x.itemsize == 1 else x  # not every operation is there for e4m3
    return F.pad(bits, (0, 0, 0, more)).view(x.dtype)


def _structured(inputs: Inputs, backend: str, *, bare: bool) -> Callable[[], Call]:
    def prepare() -> Call:
        kind: Any = getattr(torch.sparse, f"SparseSemiStructuredTensor{backend}")
        weight = kind.from_dense(inputs.pruned)
        bias, activation = (None, "none") if bare else (inputs.bias, inputs.shape.activation)
        return lambda: expressions.finished(F.linear(inputs.x, weight, bias), activation)

    return prepare


def _bare(inputs: Inputs, format_name: str, *, one_scale: bool = False, search: bool = False) -> Callable[[], Call]:
    def prepare() -> Call:
        m = inputs.shape.m
        if format_name == "bf16":
            packed, alpha = torch._cslt_compress(inputs.pruned), None
            a, a_scale = padded(inputs.x), None
        else:
            codes = inputs.codes(format_name, "2:4", one_scale=one_scale)
            packed, a = torch._cslt_compress(codes.b), padded(codes.a)
            # A vector also where it is one number, which torch would fetch from the device at every call.
            alpha = (codes.b_scale.reshape(-1) * (codes.a_scale.reshape(-1) if one_scale else 1)).expand(inputs.shape.n)
            alpha, a_scale = alpha.contiguous(), None if one_scale else codes.a_scale
        best = _searched(packed, a, alpha) if search else 0

        def run() -> torch.Tensor:
            out = _multiplied(packed, a, alpha, alg_id=best)[:m]
            return out if a_scale is None else out.mul_(a_scale)

        return run

    return prepare


def _used(inputs: Inputs, format_name: str) -> Callable[[], Call]:
    def prepare() -> Call:
        shape, x, bias = inputs.shape, inputs.x, inputs.bias
        if format_name == "bf16":
            packed = torch._cslt_compress(inputs.pruned)
            return lambda: expressions.finished(_multiplied(packed, padded(x), None, bias)[: shape.m], shape.activation)
        codes = inputs.codes(format_name, "2:4")
        packed, alpha = torch._cslt_compress(codes.b), codes.b_scale.reshape(-1).contiguous()

        def run() -> torch.Tensor:
            a, a_scale = expressions.quantized(x, DTYPES[format_name])
            out = _multiplied(packed, padded(a), alpha)[: shape.m] * a_scale + bias.float()
            return expressions.finished(out.to(torch.bfloat16), shape.activation)

        return run

    return prepare


def _multiplied(
    packed: torch.Tensor,
    a: torch.Tensor,
    alpha: torch.Tensor | None,
    bias: torch.Tensor | None = None,
    *,
    alg_id: int = 0,
) -> torch.Tensor:
    """[M, N] in bf16, its rows together."""
    return torch._cslt_sparse_mm(
        packed, a.t(), bias=bias, alpha=alpha, out_dtype=_out(a), transpose_result=True, alg_id=alg_id
    )


def _searched(packed: torch.Tensor, a: torch.Tensor, alpha: torch.Tensor | None) -> int:
    """The library's own fastest algorithm."""
    return int(torch._cslt_sparse_mm_search(packed, a.t(), alpha=alpha, out_dtype=_out(a), transpose_result=True))


def _out(a: torch.Tensor) -> torch.dtype | None:
    """Asked for where it is not that of the input, and only there."""
    return None if a.dtype == torch.bfloat16 else torch.bfloat16
