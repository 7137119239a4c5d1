"""What every op computes, in plain torch on any device: the definition that each implementation must agree with.

Exact about the order of operations, rounding and saturation, because "what is stored is what runs" needs one
arithmetic. Fast it need not be.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.kernels.numerics import encode, scale_from_amax


def activate(x: torch.Tensor, activation: str) -> torch.Tensor:
    """One of `checks.ACTIVATIONS`, in float32."""
    match activation:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)
        case _:
            return x


def normalize(
    x: torch.Tensor, norm: str, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """LayerNorm ("layer") or RMSNorm ("rms") of float32 x [..., K], with its own weight and bias [K] where given."""
    if norm == "layer":
        x = F.layer_norm(x, x.shape[-1:], eps=eps)
    elif norm == "rms":
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    if weight is not None:
        x = x * weight.float()
    return x if bias is None else x + bias.float()


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype,
    scale: torch.Tensor | None,
    pre_quant_scale: torch.Tensor | None,
    norm: str,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
    eps: float,
    modulation_scale: torch.Tensor | None,
    modulation_shift: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ops.quantize_rows`: norm, modulation, `pre_quant_scale`, then codes; everything before them in float32."""
    values = normalize(x.float(), norm, norm_weight, norm_bias, eps)
    if modulation_scale is not None and modulation_shift is not None:
        values = values * (1 + modulation_scale.float()) + modulation_shift.float()
    if pre_quant_scale is not None:
        values = values * pre_quant_scale
    if scale is None:
        used = scale_from_amax(values.abs().amax(dim=-1, keepdim=True), dtype)
    else:
        # A copy: an op's result may not share memory with its input.
        used = scale.reshape(1, 1).clone()
    return encode(values, used, dtype), used


def accumulate(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b.T in float32 [M, N]: INT8 exact in INT32 and then rounded once, FP8 by exact products summed in FP32."""
    if a.dtype == torch.int8:
        # A sum of products of INT8 is exact in double: |sum| < 2**31, the limit of INT32, which `checks` sees to.
        return (a.double() @ b.double().T).float()
    return a.float() @ b.float().T


def epilogue(
    accumulator: torch.Tensor,
    a_scale: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    gate: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None,
) -> torch.Tensor:
    """What follows the accumulator [M, N] in float32, in the order that all matmuls share.

    Scales, bias, activation, `residual + gate * out`, and the last rounding: codes with `out_scale`, else a cast.
    """
    out = accumulator * a_scale * b_scale.reshape(1, -1)
    if bias is not None:
        out = out + bias.float()
    out = activate(out, activation)
    if gate is not None:
        out = gate.float() * out
    if residual is not None:
        out = residual.float() + out
    return out.to(out_dtype) if out_scale is None else encode(out, out_scale.reshape(1, 1), out_dtype)


def scaled_mm(
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
    """`ops.scaled_mm` on a [M, K]."""
    return epilogue(accumulate(a, b), a_scale, b_scale, bias, activation, residual, gate, out_dtype, out_scale)
