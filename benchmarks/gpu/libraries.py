"""Libraries that quantize a Linear of torch, through their public functions; those that are not installed are listed.

SDNQ is under GPL-3.0: it is called here, and nothing of it is part of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from benchmarks.gpu import expressions
from benchmarks.gpu.contestants import Call, Contestant
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.torch_compiled import AUTOTUNE


def contestants(inputs: Inputs) -> list[Contestant]:
    """torchao eager, and compiled where the shape is `autotuned`; SDNQ, which compiles for itself."""
    found = []
    for format_name in ("int8", "fp8"):
        absent = missing("torchao")
        found.append(Contestant("torchao", format_name, "used", _torchao(inputs, format_name, compiled=False), absent))
        if inputs.shape.autotuned:
            compiled = _torchao(inputs, format_name, compiled=True)
            found.append(Contestant("torchao max-autotune", format_name, "used", compiled, absent, "max-autotune"))
        found.append(Contestant("SDNQ", format_name, "used", _sdnq(inputs, format_name), missing("sdnq"), "sdnq"))
    return found


def missing(package: str) -> str | None:
    """That it is not installed, in words; None where it is."""
    return None if find_spec(package) else f"the package {package} is not installed"


def _torchao(inputs: Inputs, format_name: str, *, compiled: bool) -> Callable[[], Call]:
    def prepare() -> Call:
        quantization: Any = import_module("torchao.quantization")
        if format_name == "int8":
            config = quantization.Int8DynamicActivationInt8WeightConfig()
        else:
            config = quantization.Float8DynamicActivationFloat8WeightConfig(granularity=quantization.PerRow())
        with _own_inductor_settings():
            model = layer(inputs)
            quantization.quantize_(model, config)
            return _ready(torch.compile(model, dynamic=False, mode=AUTOTUNE) if compiled else model, inputs)

    return prepare


def _sdnq(inputs: Inputs, format_name: str) -> Callable[[], Call]:
    def prepare() -> Call:
        sdnq: Any = import_module("sdnq")
        with _own_inductor_settings():
            # One scale a row, as the other contestants have it; without skip keys, which name layers of whole models.
            model = sdnq.sdnq_post_load_quant(
                layer(inputs),
                weights_dtype="int8" if format_name == "int8" else "float8_e4m3fn",
                group_size=-1,
                use_quantized_matmul=True,
                add_skip_keys=False,
            )
            return _ready(model, inputs)

    return prepare


def layer(inputs: Inputs) -> nn.Module:
    """The layer in bf16, inside another module, since libraries replace what a module holds."""
    n, k = inputs.weight.shape
    linear = nn.Linear(k, n, dtype=torch.bfloat16, device="meta")
    linear.weight = nn.Parameter(inputs.weight.clone(), requires_grad=False)
    linear.bias = nn.Parameter(inputs.bias.clone(), requires_grad=False)
    return nn.Sequential(linear, _Activation(inputs.shape.activation)).eval()


class _Activation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return expressions.finished(x, self.name)


def _ready(model: Callable[..., Any], inputs: Inputs) -> Call:
    """Runs it once, which is when it compiles, and then as a call."""

    def run() -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(inputs.x)
            return out

    run()
    return run


@contextmanager
def _own_inductor_settings() -> Iterator[None]:
    """Puts back the compiler's settings, which libraries change for everyone."""
    config: Any = import_module("torch._inductor.config")
    before = config.save_config()
    try:
        yield
    finally:
        config.load_config(before)
