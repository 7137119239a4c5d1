"""The ops that a quantized layer calls, registered with torch under `torch.ops.quant`.

Each has one definition (`reference`), a fake implementation so that `torch.compile(fullgraph=True)` and meta tensors
work, and implementations that `dispatch` picks from when it runs. For inference only: none has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from quant.kernels.checks import check_quantize_rows, check_scaled_mm
from quant.kernels.dispatch import Call, choose


class Norm(NamedTuple):
    """A norm applied before quantization.

    Attributes:
        kind: "layer" or "rms".
        weight, bias: [K] or None.
        eps: added to the variance.
    """

    kind: str
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    eps: float = 1e-6


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype,
    *,
    scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    norm: Norm | None = None,
    modulation: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as 8-bit codes: q * scale is about x.

    Args:
        x: [..., K], 2 to 4 dimensions, float32, bfloat16 or float16, any strides.
        dtype: of the codes, int8 or float8_e4m3fn.
        scale: float32 with one element: static, the same for all rows. None finds one a row.
        pre_quant_scale: float32 [K]; x is multiplied by it.
        norm: applied to x first.
        modulation: (scale, shift), each broadcasting to x; the normed x becomes x * (1 + scale) + shift.

    Returns:
        q like x, and its scale: float32 [..., 1], or [1, 1] where static.

    Raises:
        ValueError: a shape or dtype that does not fit.
    """
    kind, weight, bias, eps = norm or ("none", None, None, 0.0)
    by, shift = modulation or (None, None)
    check_quantize_rows(x, dtype, scale, pre_quant_scale, kind, weight, bias)
    found: tuple[torch.Tensor, torch.Tensor] = torch.ops.quant.quantize_rows(
        x, dtype, scale, pre_quant_scale, kind, weight, bias, eps, by, shift
    )
    return found


def scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """out = (a @ b.T) * a_scale * b_scale, then bias, activation, residual + gate * out, and the last rounding.

    Args:
        a: codes [..., K], 2 to 4 dimensions, int8 or float8_e4m3fn.
        a_scale: float32, one a row, [..., 1], or one element for all.
        b: codes [N, K], of a's dtype.
        b_scale: float32 [N, 1], or one element.
        bias: [N].
        activation: one of `checks.ACTIVATIONS`.
        residual, gate: broadcast to the output [..., N].
        out_dtype: float32, bfloat16 or float16; with `out_scale` that of codes.
        out_scale: float32 with one element: the output is quantized by it.

    Raises:
        ValueError: a shape or dtype that does not fit, or a K whose INT8 sum could overflow INT32.
    """
    check_scaled_mm(a, a_scale, b, b_scale, bias, activation, out_dtype, out_scale)
    out: torch.Tensor = torch.ops.quant.scaled_mm(
        a, a_scale, b, b_scale, bias, activation, residual, gate, out_dtype, out_scale
    )
    return out


_library = torch.library.Library("quant", "DEF")  # type: ignore[no-untyped-call]  # torch types no Library
_library.define(  # type: ignore[no-untyped-call]
    "quantize_rows(Tensor x, ScalarType dtype, Tensor? scale, Tensor? pre_quant_scale, str norm, Tensor? norm_weight, "
    "Tensor? norm_bias, float eps, Tensor? modulation_scale, Tensor? modulation_shift) -> (Tensor, Tensor)"
)
_library.define(  # type: ignore[no-untyped-call]
    "scaled_mm(Tensor a, Tensor a_scale, Tensor b, Tensor b_scale, Tensor? bias, str activation, Tensor? residual, "
    "Tensor? gate, ScalarType out_dtype, Tensor? out_scale) -> Tensor"
)


def _quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *rest: object
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = choose(_call("quantize_rows", x, dtype, n=0))
    codes, used = chosen.run(x, dtype, scale, *rest)
    return codes.contiguous(), used


def _scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    gate: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None,
) -> torch.Tensor:
    shape = [*a.shape[:-1], b.shape[0]]
    flat_scale = a_scale.reshape(-1, 1)
    chosen = choose(_call("scaled_mm", a, a.dtype, n=b.shape[0]))
    out: torch.Tensor = chosen.run(
        a.reshape(-1, a.shape[-1]),
        flat_scale,
        b,
        b_scale,
        bias,
        activation,
        _rows(residual, shape),
        _rows(gate, shape),
        out_dtype,
        out_scale,
    )
    return out.reshape(shape)


def _rows(x: torch.Tensor | None, shape: Sequence[int]) -> torch.Tensor | None:
    """`x` broadcast to `shape` and flattened to [M, N]."""
    return None if x is None else x.expand(shape).reshape(-1, shape[-1])


def _call(op: str, x: torch.Tensor, dtype: torch.dtype, n: int) -> Call:
    k = x.shape[-1]
    capability = torch.cuda.get_device_capability(x.device) if x.device.type == "cuda" else None
    return Call(op, x.device.type, dtype, x.numel() // max(k, 1), n, k, capability=capability)


def _fake_quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, *rest: object
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [*x.shape[:-1], 1] if scale is None else [1, 1]
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(rows, dtype=torch.float32)


def _fake_scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    gate: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None,
) -> torch.Tensor:
    return a.new_empty([*a.shape[:-1], b.shape[0]], dtype=out_dtype)


# One entry for every device: which implementation runs is `dispatch`'s to say, and to explain.
_library.impl("quantize_rows", _quantize_rows, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
_library.impl("scaled_mm", _scaled_mm, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("quant::quantize_rows", _fake_quantize_rows, lib=_library)
torch.library.register_fake("quant::scaled_mm", _fake_scaled_mm, lib=_library)
