"""The ops as torch knows them, `torch.ops.quant.*`: schemas, fake implementations, and the call that dispatches.

Tensors of any rank arrive here; an implementation sees rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from quant.kernels.arguments import Ending, Epilogue, Int4Weight, Prologue, Sparse24Weight
from quant.kernels.dispatch import Call, Implementation, choose, explain
from quant.kernels.layouts import nibbles, sparse24
from quant.kernels.no_gradient import refuse_gradient
from quant.kernels.runtime import availability

_library = torch.library.Library("quant", "DEF")  # type: ignore[no-untyped-call]  # torch types no Library
_library.define(  # type: ignore[no-untyped-call]
    "quantize_rows(Tensor x, ScalarType dtype, Tensor? scale, Tensor? pre_quant_scale, str norm, Tensor? norm_weight, "
    "Tensor? norm_bias, float eps, Tensor? modulation_scale, Tensor? modulation_shift, int group=0) -> (Tensor, Tensor)"
)
_ENDING = "Tensor? bias, str activation, Tensor? residual, Tensor? gate, ScalarType out_dtype, Tensor? out_scale"
_library.define(  # type: ignore[no-untyped-call]
    f"scaled_mm(Tensor a, Tensor a_scale, Tensor b, Tensor b_scale, {_ENDING}, bool fast_accumulate=False) -> Tensor"
)
_library.define(  # type: ignore[no-untyped-call]
    f"int4_mm(Tensor a, Tensor? a_scale, Tensor b_packed, Tensor b_scale, Tensor? b_zero, {_ENDING}, "
    f'str layout="{nibbles.NAME}", SymInt? n=None) -> Tensor'
)
_library.define(f"int8_mm(Tensor a, Tensor b, Tensor b_scale, {_ENDING}) -> Tensor")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    f"sparse_scaled_mm(Tensor a, Tensor? a_scale, Tensor b_values, Tensor b_meta, Tensor? b_scale, {_ENDING}, "
    f'bool fast_accumulate=False, str layout="{sparse24.NAME}", SymInt? n=None) -> Tensor'
)


def _quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    prologue, group = _prologue(*rest)
    chosen = _chosen(replace(_call("quantize_rows", x, dtype, n=0), group=group))
    by = {"group": group} if group else {}  # those that find one scale a row know no other
    codes, used = chosen.run(x, dtype, scale, prologue, **by)
    return codes.contiguous(), used


def _prologue(*rest: Any) -> tuple[Prologue, int]:
    """A prologue and the columns that share a scale, which torch leaves out where they are 0, the schema's default."""
    last = len(Prologue._fields)
    return Prologue(*rest[:last]), rest[last] if len(rest) > last else 0


def _scaled_mm(
    a: torch.Tensor, a_scale: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, *rest: Any
) -> torch.Tensor:
    n, k = b.shape
    epilogue = _epilogue(a, a_scale, b_scale, n, *rest)
    call = replace(_call("scaled_mm", a, a.dtype, n=n), block_scales=epilogue.has_block_scales(n, k))
    return _multiplied(call, a, epilogue, b)


def _int4_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b_packed: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None,
    *rest: Any,
) -> torch.Tensor:
    ending, layout, n = _order(rest, len(Ending._fields), nibbles.NAME, b_packed)
    b = Int4Weight(b_packed, b_scale, b_zero, n, layout)
    call = replace(
        _call("int4_mm", a, a.dtype, n=n),
        group=_group(a.shape[-1], b.groups),
        layout=layout,
    )
    return _multiplied(call, a, _epilogue(a, a_scale, None, n, *ending), b)


def _int8_mm(a: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, *rest: Any) -> torch.Tensor:
    n = b.shape[0]
    call = replace(_call("int8_mm", a, a.dtype, n=n), group=_group(a.shape[-1], b_scale.shape[1]))
    return _multiplied(call, a, _epilogue(a, None, None, n, *rest), b, b_scale)


def _sparse_scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b_values: torch.Tensor,
    b_meta: torch.Tensor,
    b_scale: torch.Tensor | None,
    *rest: Any,
) -> torch.Tensor:
    ending, layout, n = _order(rest, len(Ending._fields) + 1, sparse24.NAME, b_values)
    call = replace(_call("sparse_scaled_mm", a, a.dtype, n=n), layout=layout)
    return _multiplied(call, a, _epilogue(a, a_scale, b_scale, n, *ending), Sparse24Weight(b_values, b_meta, n, layout))


def _order(rest: Sequence[Any], ahead: int, plain: str, weight: torch.Tensor) -> tuple[Sequence[Any], str, int]:
    """What is ahead of a weight's order and rows, and these, which torch leaves out where they are the defaults."""
    order = rest[ahead:]
    n = order[1] if len(order) > 1 else None
    return rest[:ahead], order[0] if order else plain, weight.shape[0] if n is None else n


def _multiplied(call: Call, a: torch.Tensor, epilogue: Epilogue, *b: Any) -> torch.Tensor:
    """Runs a matmul with its weight on the rows of `a`."""
    out: torch.Tensor = _chosen(call).run(a.reshape(-1, call.k), *b, epilogue)
    return out.reshape(*a.shape[:-1], call.n)


def _epilogue(
    a: torch.Tensor, a_scale: torch.Tensor | None, b_scale: torch.Tensor | None, n: int, *rest: Any
) -> Epilogue:
    """The epilogue with its operands as rows; a scale that there is not is 1."""
    scales = _or_one(a_scale, a.device)
    scales = scales.reshape(1, 1) if scales.numel() == 1 else scales.reshape(-1, scales.shape[-1])
    epilogue = Epilogue(scales, _or_one(b_scale, a.device), *rest)
    shape = [*a.shape[:-1], n]
    return epilogue._replace(
        residual=_expanded(epilogue.residual, shape),
        gate=_expanded(epilogue.gate, shape),
        fast_accumulate=epilogue.fast_accumulate and a.dtype == torch.float8_e4m3fn,
    )


def _or_one(scale: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    return torch.ones(1, 1, device=device) if scale is None else scale


def _group(k: int, groups: int) -> int:
    """Columns that share a scale, 0 where a row has one."""
    return 0 if groups == 1 else k // groups


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
    why = reasons or "it has none for this op and dtype"
    warnings.warn(f"{op} runs by {name}, not by a kernel of quant: {why}", stacklevel=2)


def _alone(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` within the op: autograd records nothing there, and `torch.autocast` rounds none of its arithmetic."""

    def op(x: torch.Tensor, *rest: Any) -> Any:
        refuse_gradient(name, x, *rest)
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return run(x, *rest)
        with torch.autocast(device, enabled=False):
            return run(x, *rest)

    return op


def _fake_quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    _, group = _prologue(*rest)
    a_row = -(-x.shape[-1] // group) if group else 1
    rows = [*x.shape[:-1], a_row] if scale is None else [1, 1]
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(rows, dtype=torch.float32)


def _fake(before: int, weight: int, rows: int | None) -> Callable[..., torch.Tensor]:
    """Of a matmul with so many operands before its ending, of which one is the weight [N, ...].

    Where the weight may be in another order, the operand `rows` is N, if it is given.
    """

    def fake(a: torch.Tensor, *rest: Any) -> torch.Tensor:
        out_dtype = Ending(*rest[before - 1 : before - 1 + len(Ending._fields)]).out_dtype
        n = rest[rows - 1] if rows is not None and rows <= len(rest) else None
        return a.new_empty([*a.shape[:-1], rest[weight - 1].shape[0] if n is None else n], dtype=out_dtype)

    return fake


# One entry for every device: which implementation runs is `dispatch`'s to say, and to explain.
_library.impl("quantize_rows", _alone("quantize_rows", _quantize_rows), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("quant::quantize_rows", _fake_quantize_rows, lib=_library)
for _name, _run, _operands, _weight, _rows in (
    ("scaled_mm", _scaled_mm, 4, 2, None),
    ("int4_mm", _int4_mm, 5, 2, 12),
    ("int8_mm", _int8_mm, 3, 1, None),
    ("sparse_scaled_mm", _sparse_scaled_mm, 5, 2, 13),
):
    _library.impl(_name, _alone(_name, _run), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"quant::{_name}", _fake(_operands, _weight, _rows), lib=_library)
