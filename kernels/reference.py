"""The arithmetic that the ops' definitions share, in plain torch on any device: each implementation must agree with it.

Exact about the order of operations, rounding and saturation, because "what is stored is what runs" needs one
arithmetic. Fast it need not be.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.numerics import encode


def accumulate(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b.T in float32 [M, N]: INT8 exact in INT32 and then rounded once, FP8 by exact products summed in FP32."""
    if a.dtype == torch.int8:
        # A sum of products of INT8 is exact in double: |sum| < 2**31, the limit of INT32, which the ops' checks see to.
        return (a.double() @ b.double().T).float()
    return a.float() @ b.float().T


def apply_scales(accumulator: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """A float32 accumulator [M, N] times the scales of its rows, then of its columns."""
    return accumulator * epilogue.a_scale * epilogue.b_scale.reshape(1, -1)


def dequantized(
    codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """(codes - zero) * scale in float32, rounded to `dtype` and back to float32.

    Args:
        codes: int8 [N, K].
        scale, zero: [N, G], each for K/G columns.
    """
    parts = codes.reshape(*scale.shape, codes.shape[1] // scale.shape[1]).float()
    steps = parts if zero is None else parts - zero.float().unsqueeze(-1)
    return (steps * scale.float().unsqueeze(-1)).to(dtype).float().reshape(codes.shape)


def prepare(x: torch.Tensor, prologue: Prologue) -> torch.Tensor:
    """The prologue on float32 x [..., K]."""
    x = normalize(x, prologue)
    if prologue.modulation_scale is not None and prologue.modulation_shift is not None:
        x = x * (1 + prologue.modulation_scale.float()) + prologue.modulation_shift.float()
    return x if prologue.pre_quant_scale is None else x * prologue.pre_quant_scale


def normalize(x: torch.Tensor, prologue: Prologue) -> torch.Tensor:
    """LayerNorm or RMSNorm over the last dimension of float32 x, with its own weight and bias where given."""
    if prologue.norm == "layer":
        x = F.layer_norm(x, x.shape[-1:], eps=prologue.eps)
    elif prologue.norm == "rms":
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + prologue.eps)
    if prologue.norm_weight is not None:
        x = x * prologue.norm_weight.float()
    return x if prologue.norm_bias is None else x + prologue.norm_bias.float()


def finish(sums: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """The rest of the epilogue on scaled float32 sums [M, N]."""
    out = sums
    if epilogue.bias is not None:
        out = out + epilogue.bias.float()
    out = activate(out, epilogue.activation)
    if epilogue.gate is not None:
        out = epilogue.gate.reshape(out.shape).float() * out
    if epilogue.residual is not None:
        out = epilogue.residual.reshape(out.shape).float() + out
    if epilogue.out_scale is None:
        return out.to(epilogue.out_dtype)
    return encode(out, epilogue.out_scale.reshape(1, 1), epilogue.out_dtype)


def activate(x: torch.Tensor, activation: str) -> torch.Tensor:
    """One of `ops.checks.ACTIVATIONS`, in float32."""
    match activation:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)
        case _:
            return x
