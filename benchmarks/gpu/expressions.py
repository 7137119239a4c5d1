"""A quantized layer written in torch, for torch to run as it stands or to compile."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.kernels.numerics import LARGEST, SMALLEST_SCALE


def quantized(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of x [M, K] with one scale a row, float32 [M, 1]."""
    values = x.float()
    scale = (values.abs().amax(dim=1, keepdim=True) / LARGEST[dtype]).clamp(min=SMALLEST_SCALE)
    scaled = values / scale
    if dtype == torch.int8:
        scaled = scaled.round()
    return scaled.clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype), scale


def finished(out: torch.Tensor, activation: str) -> torch.Tensor:
    """The activation, in the dtype of `out`; computed in float32 by torch's own kernels."""
    return F.gelu(out, approximate="tanh") if activation == "gelu_tanh" else out


def bf16(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    """The layer before it was quantized."""
    return finished(F.linear(x, weight, bias), activation)


def int8_matmul(
    a: torch.Tensor, a_scale: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """`torch._int_mm`, then scales and bias in float32, bf16 out."""
    out = torch._int_mm(a, b.t()).float() * a_scale * b_scale.reshape(1, -1)
    return (out if bias is None else out + bias.float()).to(torch.bfloat16)


def fp8_matmul(
    a: torch.Tensor, a_scale: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """`torch._scaled_mm`, row-wise or per tensor by the shape of the scales; fast accumulation, as torchao has it."""
    if b_scale.numel() == 1:
        a_scale, b_scale = a_scale.reshape(()), b_scale.reshape(())
    else:
        b_scale = b_scale.reshape(1, -1)
    return torch._scaled_mm(
        a, b.t(), scale_a=a_scale, scale_b=b_scale, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def int8_layer(
    x: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    """The whole INT8 layer on bf16 x [M, K]."""
    return finished(int8_matmul(*quantized(x, torch.int8), b, b_scale, bias), activation)


def fp8_layer(
    x: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    """The whole FP8 layer on bf16 x [M, K], scales by row."""
    return finished(fp8_matmul(*quantized(x, torch.float8_e4m3fn), b, b_scale, bias), activation)


def fp8_tensor_layer(
    x: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, bias: torch.Tensor, activation: str
) -> torch.Tensor:
    """The whole FP8 layer on bf16 x [M, K], one scale for x, found while running, and one for the weight."""
    dtype = torch.float8_e4m3fn
    scale = (x.abs().amax().float() / LARGEST[dtype]).clamp(min=SMALLEST_SCALE).reshape(1, 1)
    codes = (x.float() / scale).clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype)
    return finished(fp8_matmul(codes, scale, b, b_scale, bias), activation)
