"""What a contestant is; the lists of them are in the files that `matmuls.contestants` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Format(NamedTuple):
    """What a layer is multiplied as.

    Attributes:
        label: for tables.
        x: its input: "bf16" as it comes, or codes, "int8" or "fp8".
        weight: "dense", "2:4", or "int4".
    """

    label: str
    x: str
    weight: str


FORMATS = {
    "bf16": Format("bf16", "bf16", "dense"),
    "int8": Format("INT8", "int8", "dense"),
    "fp8": Format("FP8", "fp8", "dense"),
    "2:4 bf16": Format("2:4 bf16", "bf16", "2:4"),
    "2:4 int8": Format("2:4 INT8", "int8", "2:4"),
    "2:4 fp8": Format("2:4 FP8", "fp8", "2:4"),
    "w4a16": Format("W4A16", "bf16", "int4"),
    "w4a8": Format("W4A8", "int8", "int4"),
    "w4afp8": Format("W4AFP8", "fp8", "int4"),
}
#: "bare": the matmul of ready operands with its scales, bf16 out. "used": bf16 in, quantized by token where the format
#: says so, multiplied, scaled, bias, and GELU (tanh) where the layer has one, bf16 out.
MODES = ("bare", "used")
#: What everything is compared with.
BASELINE = "torch bf16"

#: One call; returns [M, N] in bf16.
Call = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Contestant:
    """One way to compute a layer.

    Attributes:
        name: of the implementation.
        format: a key of `FORMATS`.
        mode: one of `MODES`.
        prepare: makes what can be made once, and the call; raises where it cannot, and the reason is listed.
        refusal: why it does not accept this shape on this device, in its own words.
        compiles: the kind of compilation or search that its preparation holds, a key of `COMPILATIONS`.
    """

    name: str
    format: str
    mode: str
    prepare: Callable[[], Call]
    refusal: str | None = None
    compiles: str | None = None


#: Kinds of compilation and search, and a guess at the seconds of the first of each. Later ones are expected to take
#: what the longest took.
COMPILATIONS = {"torch.compile": 20.0, "max-autotune": 45.0, "sdnq": 40.0, "rows": 8.0, "cuSPARSELt search": 4.0}
