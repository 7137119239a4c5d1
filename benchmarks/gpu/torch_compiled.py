"""The same expressions under torch.compile, which fuses what surrounds the matmul and may write the matmul itself.

Two ways. "torch.compile" is its default mode with dynamic shapes: compiled once for all layers, the matmul is the
library's. "max-autotune" tries Triton's and the library's matmuls for one shape and takes the fastest, in a minute.

The mode is max-autotune-no-cudagraphs. Plain max-autotune differs in one thing: it replays CUDA graphs, which copy
every input that is not a parameter into a buffer of their own at each call, and take away launch gaps. The copy would
be charged to this contestant alone, and the gaps are hidden for all by the timer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch

from benchmarks.gpu import expressions
from benchmarks.gpu.contestants import Call, Contestant
from benchmarks.gpu.inputs import Inputs

AUTOTUNE = "max-autotune-no-cudagraphs"
_VARIANTS = 256


def contestants(inputs: Inputs) -> list[Contestant]:
    """The whole layer, INT8 and FP8, and on a shape that is `autotuned` also bf16; bare, INT8 alone, whose scales are
    fused so, as FP8's are by the library."""
    x, activation = inputs.x, inputs.shape.activation

    def quantized(layer: Callable[..., torch.Tensor], format_name: str, mode: str) -> Callable[[], Call]:
        return lambda: _compiled(layer, mode, x, *inputs.codes(format_name)[2:], inputs.bias, activation)

    layers = (("int8", expressions.int8_layer), ("fp8", expressions.fp8_layer))
    found = [
        Contestant(
            "torch.compile", format_name, "used", quantized(layer, format_name, "default"), compiles="torch.compile"
        )
        for format_name, layer in layers
    ]
    bare = lambda: _compiled(expressions.int8_matmul, "default", *inputs.codes("int8"), None)  # noqa: E731
    found.append(Contestant("torch.compile", "int8", "bare", bare, compiles="torch.compile"))
    if inputs.shape.autotuned:
        name = "torch.compile max-autotune"
        found += [
            Contestant(name, format_name, "used", quantized(layer, format_name, AUTOTUNE), compiles="max-autotune")
            for format_name, layer in layers
        ]
        arguments = (x, inputs.weight, inputs.bias, activation)
        found.append(
            Contestant(
                name,
                "bf16",
                "used",
                lambda: _compiled(expressions.bf16, AUTOTUNE, *arguments),
                compiles="max-autotune",
            )
        )
    return found


@cache
def compiled(function: Callable[..., torch.Tensor], mode: str) -> Callable[..., torch.Tensor]:
    """`function` under torch.compile, the same object each time, so that what was compiled is found again."""
    # fullgraph: a part that torch can't compile is an error, not a quiet return to eager.
    if mode == "default":
        return torch.compile(function, dynamic=True, fullgraph=True)
    return torch.compile(function, dynamic=False, fullgraph=True, mode=mode)


def keep_all_variants() -> None:
    """Lets torch keep one compiled variant for each shape, where it would give up after eight."""
    config: Any = import_module("torch._dynamo.config")
    config.recompile_limit = config.accumulated_recompile_limit = _VARIANTS


def _compiled(function: Callable[..., torch.Tensor], mode: str, *arguments: object) -> Call:
    run = compiled(function, mode)
    run(*arguments)
    return lambda: run(*arguments)
