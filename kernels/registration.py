"""The ops as torch knows them, `torch.ops.quant.*`: schemas, fake implementations, and the call that dispatches.

Tensors of any rank arrive here; an implementation sees rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.dispatch import Call, Implementation, choose, explain
from quant.kernels.runtime import availability

_library = torch.library.Library("quant", "DEF")  # type: ignore[no-untyped-call]  # torch types no Library
_library.define(  # type: ignore[no-untyped-call]
    "quantize_rows(Tensor x, ScalarType dtype, Tensor? scale, Tensor? pre_quant_scale, str norm, Tensor? norm_weight, "
    "Tensor? norm_bias, float eps, Tensor? modulation_scale, Tensor? modulation_shift) -> (Tensor, Tensor)"
)
_library.define(  # type: ignore[no-untyped-call]
    "scaled_mm(Tensor a, Tensor a_scale, Tensor b, Tensor b_scale, Tensor? bias, str activation, Tensor? residual, "
    "Tensor? gate, ScalarType out_dtype, Tensor? out_scale, bool fast_accumulate=False) -> Tensor"
)


def _quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *prologue: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = _chosen(_call("quantize_rows", x, dtype, n=0))
    codes, used = chosen.run(x, dtype, scale, Prologue(*prologue))
    return codes.contiguous(), used


def _scaled_mm(
    a: torch.Tensor, a_scale: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, *rest: Any
) -> torch.Tensor:
    n, k = b.shape
    shape = [*a.shape[:-1], n]
    scales = a_scale.reshape(1, 1) if a_scale.numel() == 1 else a_scale.reshape(-1, a_scale.shape[-1])
    epilogue = Epilogue(scales, b_scale, *rest)
    epilogue = epilogue._replace(
        residual=_expanded(epilogue.residual, shape),
        gate=_expanded(epilogue.gate, shape),
        fast_accumulate=epilogue.fast_accumulate and a.dtype == torch.float8_e4m3fn,
    )
    call = _call("scaled_mm", a, a.dtype, n=n)
    chosen = _chosen(replace(call, block_scales=epilogue.has_block_scales(n, k)))
    out: torch.Tensor = chosen.run(a.reshape(-1, k), b, epilogue)
    return out.reshape(shape)


def _expanded(x: torch.Tensor | None, shape: Sequence[int]) -> torch.Tensor | None:
    """`x` broadcast to `shape`: a view, in which leading dimensions may have stride 0 but the last has not."""
    if x is None:
        return None
    if x.ndim == 0 or x.shape[-1] != shape[-1]:
        x = x.expand(*x.shape[:-1], shape[-1])
    return (x if x.stride(-1) == 1 else x.contiguous()).expand(shape)


def _call(op: str, x: torch.Tensor, dtype: torch.dtype, n: int) -> Call:
    k = x.shape[-1]
    m = x.numel() // max(k, 1)
    if x.device.type != "cuda":
        return Call(op, x.device.type, dtype, m, n, k)
    capability = torch.cuda.get_device_capability(x.device)
    return Call(op, "cuda", dtype, m, n, k, capability=capability, no_compiled=availability.reason(x.device))


def _chosen(call: Call) -> Implementation:
    """The implementation to run. On a GPU, one that is not a compiled kernel is said, once for each reason."""
    chosen = choose(call)
    if call.device == "cuda" and not chosen.compiled:
        ours = [(each, why) for each, why in explain(call) if each.compiled and each.is_about(call)]
        if all(why is not None for _, why in ours):  # else someone asked for another than the best
            _tell(call.op, chosen.name, "; ".join(f"{each.name} {why}" for each, why in ours))
    return chosen


@cache
def _tell(op: str, name: str, reasons: str) -> None:
    warnings.warn(f"{op} runs by {name}, not by a kernel of quant: {reasons}", stacklevel=2)


def _fake_quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *prologue: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [*x.shape[:-1], 1] if scale is None else [1, 1]
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(rows, dtype=torch.float32)


def _fake_scaled_mm(
    a: torch.Tensor, a_scale: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, *rest: Any
) -> torch.Tensor:
    return a.new_empty([*a.shape[:-1], b.shape[0]], dtype=Epilogue(a_scale, b_scale, *rest).out_dtype)


# One entry for every device: which implementation runs is `dispatch`'s to say, and to explain.
_library.impl("quantize_rows", _quantize_rows, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
_library.impl("scaled_mm", _scaled_mm, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("quant::quantize_rows", _fake_quantize_rows, lib=_library)
torch.library.register_fake("quant::scaled_mm", _fake_scaled_mm, lib=_library)
