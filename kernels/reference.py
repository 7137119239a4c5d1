"""What every op computes, in plain torch on any device: the definition that each implementation must agree with.

Exact about the order of operations, rounding and saturation, because "what is stored is what runs" needs one
arithmetic. Fast it need not be.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from quant.kernels.arguments import SCALE_BLOCK, Epilogue, Prologue
from quant.kernels.numerics import encode, scale_from_amax


def quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue, group: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ops.quantize_rows`: the prologue in float32, then codes."""
    values = prepare(x.float(), prologue)
    if group:
        return _quantize_groups(values, dtype, group)
    if scale is None:
        used = scale_from_amax(values.abs().amax(dim=-1, keepdim=True), dtype)
    else:
        # A copy: an op's result may not share memory with its input.
        used = scale.reshape(1, 1).clone()
    return encode(values, used, dtype), used


def _quantize_groups(values: torch.Tensor, dtype: torch.dtype, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and one scale for each `group` columns of each row, the last of which may be fewer."""
    k = values.shape[-1]
    padded = F.pad(values, (0, -k % group)).reshape(*values.shape[:-1], -(-k // group), group)
    scale = scale_from_amax(padded.abs().amax(dim=-1), dtype)
    return encode(values, scale.repeat_interleave(group, dim=-1)[..., :k], dtype), scale


def scaled_mm(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on a [M, K] and b [N, K]."""
    if epilogue.has_block_scales(b.shape[0], b.shape[1]):
        return finish(accumulate_blocks(a, b, epilogue), epilogue)
    return finish(apply_scales(accumulate(a, b), epilogue), epilogue)


def accumulate(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b.T in float32 [M, N]: INT8 exact in INT32 and then rounded once, FP8 by exact products summed in FP32."""
    if a.dtype == torch.int8:
        # A sum of products of INT8 is exact in double: |sum| < 2**31, the limit of INT32, which `checks` sees to.
        return (a.double() @ b.double().T).float()
    return a.float() @ b.float().T


def accumulate_blocks(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """a @ b.T in float32 [M, N] with scales by block: each stretch of K is summed, scaled, and added in order."""
    total = torch.zeros(a.shape[0], b.shape[0], device=a.device)
    a_scales = epilogue.a_scale
    by_block = a_scales.shape[1] > 1
    for block, (part_a, part_b) in enumerate(
        zip(torch.split(a, SCALE_BLOCK, 1), torch.split(b, SCALE_BLOCK, 1), strict=True)
    ):
        scales = epilogue.b_scale[:, block].repeat_interleave(SCALE_BLOCK)[: b.shape[0]]
        if by_block:
            scales = a_scales[:, block : block + 1] * scales
        total = total + accumulate(part_a, part_b) * scales
    return total if by_block else total * a_scales


def apply_scales(accumulator: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """A float32 accumulator [M, N] times the scales of its rows, then of its columns."""
    return accumulator * epilogue.a_scale * epilogue.b_scale.reshape(1, -1)


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
