"""What torch has itself, called as it stands."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu import expressions
from benchmarks.gpu.contestants import BASELINE, Call, Contestant
from benchmarks.gpu.inputs import Codes, Inputs


def contestants(inputs: Inputs) -> list[Contestant]:
    """bf16 by cuBLAS, first; `_int_mm`; `_scaled_mm` by row and per tensor."""
    x, weight, bias, activation = inputs.x, inputs.weight, inputs.bias, inputs.shape.activation

    def bare(matmul: Callable[..., torch.Tensor], codes: Callable[[], Codes]) -> Callable[[], Call]:
        return lambda: _bound(matmul, *codes(), None)

    def used(layer: Callable[..., torch.Tensor], codes: Callable[[], Codes]) -> Callable[[], Call]:
        return lambda: _bound(layer, x, *codes()[2:], bias, activation)

    int8, fp8 = (lambda: inputs.codes("int8")), (lambda: inputs.codes("fp8"))
    whole = lambda: inputs.tensorwise  # noqa: E731
    return [
        Contestant(BASELINE, "bf16", "bare", lambda: _bound(expressions.bf16, x, weight, None, "none")),
        Contestant(BASELINE, "bf16", "used", lambda: _bound(expressions.bf16, x, weight, bias, activation)),
        Contestant("torch._int_mm", "int8", "bare", bare(expressions.int8_matmul, int8)),
        Contestant("torch._int_mm", "int8", "used", used(expressions.int8_layer, int8)),
        Contestant("torch._scaled_mm row-wise", "fp8", "bare", bare(expressions.fp8_matmul, fp8)),
        Contestant("torch._scaled_mm row-wise", "fp8", "used", used(expressions.fp8_layer, fp8)),
        Contestant("torch._scaled_mm per tensor", "fp8", "bare", bare(expressions.fp8_matmul, whole)),
        Contestant("torch._scaled_mm per tensor", "fp8", "used", used(expressions.fp8_tensor_layer, whole)),
    ]


def _bound(function: Callable[..., torch.Tensor], *arguments: object) -> Call:
    return lambda: function(*arguments)
