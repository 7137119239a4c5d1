"""`quantize_rows`: bytes a second, plain and with LayerNorm and modulation in front, against torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from benchmarks.gpu import expressions
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.correctness import relative_error, rows_of, sampled_rows
from benchmarks.gpu.entries import Entry, Spread, first_line
from benchmarks.gpu.inputs import DTYPES
from benchmarks.gpu.ours import ROWS
from benchmarks.gpu.shapes import Rows
from benchmarks.gpu.timing import Timer, interleave
from quant.kernels import dispatch, ops

#: "plain": codes and scales of x. "norm": of LayerNorm(x) * (1 + scale) + shift, as before attention and feed-forward.
MODES = ("plain", "norm")
#: Largest relative error of codes times scale: about 1% for INT8 and 2.6% for FP8 on normal values.
LIMITS = {"int8": 0.02, "fp8": 0.05}
EPS = 1e-6

Quantized = tuple[torch.Tensor, torch.Tensor]


class RowInputs(NamedTuple):
    """x [M, K] in bf16, and a scale and a shift [1, K] of the modulation."""

    x: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


def make(size: Rows, device: torch.device, seed: int = 0) -> RowInputs:
    """Standard normal x, and a modulation of the size that models have."""
    generator = torch.Generator(device=device).manual_seed(seed)
    x, scale, shift = (
        torch.randn(rows, size.k, generator=generator, device=device, dtype=torch.bfloat16) for rows in (size.m, 1, 1)
    )
    return RowInputs(x, scale * 0.2, shift * 0.2)


def moved_bytes(size: Rows, mode: str) -> int:
    """The fewest: x read once, codes and float32 scales written once, and the modulation read once."""
    return size.m * size.k * (2 + 1) + size.m * 4 + (2 * size.k * 2 if mode == "norm" else 0)


def normed(inputs: RowInputs) -> torch.Tensor:
    """The layer's input in float32 as diffusers computes it: LayerNorm without weights, then modulation."""
    x = F.layer_norm(inputs.x.float(), inputs.x.shape[-1:], eps=EPS)
    return x * (1 + inputs.scale.float()) + inputs.shift.float()


def measure(
    inputs: RowInputs,
    size: Rows,
    timer: Timer,
    budget: Budget,
    purse: Purse,
    capability: tuple[int, int],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entry]:
    """One entry for each of ours, torch eager and torch.compile, by format and mode; arguments as of `matmuls`."""
    entries: dict[tuple[str, str, str], Entry] = {}
    calls: dict[tuple[str, str, str], Callable[[], Quantized]] = {}
    for format_name, dtype in DTYPES.items():
        refusal = _refusal(dtype, size, capability)
        for mode in MODES:
            for name, make_call in _ways(inputs, dtype, mode).items():
                key = (name, format_name, mode)
                compiles = name == "torch.compile"
                reason = refusal if name == f"quant {ROWS}" else None
                outcome = "refused"
                if compiles and reason is None:
                    reason = "only tried on some sizes, for time" if not size.compiled else purse.refusal("rows")
                    outcome = "skipped"
                if reason is not None:
                    entries[key] = Entry(*key, outcome, reason)
                    continue
                begin = clock()
                try:
                    call = make_call()
                    entries[key] = _checked(key, inputs, call())
                except Exception as error:
                    entries[key] = Entry(*key, "failed", first_line(error))
                else:
                    if entries[key].reason is None:
                        calls[key] = call
                if compiles:
                    taken = clock() - begin
                    purse.spend("rows", taken)
                    budget.extend(taken)
    timed = interleave({"|".join(key): call for key, call in calls.items()}, timer, budget.left)
    for key in calls:
        name, error_size = "|".join(key), entries[key].relative_error
        if name in timed.failed:
            entries[key] = Entry(*key, "failed", timed.failed[name], error_size)
        else:
            entries[key] = Entry(*key, "timed", None, error_size, Spread.of(timed.seconds[name]))
    return list(entries.values())


def _refusal(dtype: torch.dtype, size: Rows, capability: tuple[int, int]) -> str | None:
    call = dispatch.Call("quantize_rows", "cuda", dtype, size.m, 0, size.k, capability=capability)
    return next(refusal for each, refusal in dispatch.explain(call) if each.name == ROWS)


def _ways(inputs: RowInputs, dtype: torch.dtype, mode: str) -> dict[str, Callable[[], Callable[[], Quantized]]]:
    norm = {"norm": ops.Norm("layer", eps=EPS), "modulation": (inputs.scale, inputs.shift)} if mode == "norm" else {}

    def ours() -> Callable[[], Quantized]:
        def run() -> Quantized:
            with dispatch.only(ROWS):
                return ops.quantize_rows(inputs.x, dtype, **norm)  # type: ignore[arg-type]

        return run

    def expression(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> Quantized:
        values = normed(RowInputs(x, scale, shift)) if mode == "norm" else x
        return expressions.quantized(values, dtype)

    def compiled() -> Callable[[], Quantized]:
        function: Any = torch.compile(expression, dynamic=False, fullgraph=True)
        return lambda: function(*inputs)

    return {f"quant {ROWS}": ours, "torch": lambda: lambda: expression(*inputs), "torch.compile": compiled}


def _checked(key: tuple[str, str, str], inputs: RowInputs, found: Quantized) -> Entry:
    _, format_name, mode = key
    codes, scale = found
    if codes.dtype != DTYPES[format_name] or codes.shape != inputs.x.shape or tuple(scale.shape) != (len(codes), 1):
        return Entry(*key, "wrong", f"gives {codes.dtype} {list(codes.shape)} with scales {list(scale.shape)}")
    rows = sampled_rows(len(codes))
    some = inputs._replace(x=inputs.x[rows])
    exact = normed(some) if mode == "norm" else some.x
    error = relative_error(rows_of(codes, rows).double() * scale[rows].double(), exact)
    everywhere = _everywhere(inputs, codes, scale, mode)
    for what, value in (("on sampled rows", error), ("over all rows", everywhere)):
        if not value <= LIMITS[format_name]:
            reason = f"relative error {value:.2g} {what}; right is up to {LIMITS[format_name]}"
            return Entry(*key, "wrong", reason, error)
    return Entry(*key, "timed", None, error)


def _everywhere(inputs: RowInputs, codes: torch.Tensor, scale: torch.Tensor, mode: str) -> float:
    """The largest relative error of any 4096 rows."""
    worst = 0.0
    for start in range(0, len(codes), 4096):
        part = slice(start, start + 4096)
        some = inputs._replace(x=inputs.x[part])
        exact = normed(some) if mode == "norm" else some.x.float()
        error = float((codes[part].float() * scale[part] - exact).norm() / exact.norm())
        if not error <= worst:  # nan too
            worst = error
    return worst
