"""What a contestant is; the lists of them are in ours.py, torch_eager.py, torch_compiled.py and libraries.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

FORMATS = ("bf16", "int8", "fp8")
#: "bare": the matmul of ready codes with its scales, bf16 out. "used": bf16 in, quantized by token, multiplied, scaled,
#: bias, and GELU (tanh) where the layer has one, bf16 out.
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
        format: one of `FORMATS`.
        mode: one of `MODES`.
        prepare: makes what can be made once, and the call; raises where it cannot, and the reason is listed.
        refusal: why it does not accept this shape on this device, in its own words.
        compiles: the kind of compilation that its preparation holds, a key of `COMPILATIONS`.
    """

    name: str
    format: str
    mode: str
    prepare: Callable[[], Call]
    refusal: str | None = None
    compiles: str | None = None


#: Kinds of compilation, and a guess at the seconds of the first of each. Later ones are expected to take what the
#: longest took.
COMPILATIONS = {"torch.compile": 20.0, "max-autotune": 45.0, "sdnq": 40.0, "rows": 8.0}
