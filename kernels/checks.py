"""What the ops refuse, before anything runs: one ValueError that says what would fit.

Messages are made only when something is wrong: formatting a size would tie a compiled graph to it.
"""

from __future__ import annotations

import torch

CODES = (torch.int8, torch.float8_e4m3fn)
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "silu")
NORMS = ("none", "layer", "rms")
#: INT32 holds the sum of K products of two codes up to this K: K * 127**2 < 2**31.
LARGEST_INT8_K = (2**31 - 1) // 127**2


def check_quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype,
    scale: torch.Tensor | None,
    pre_quant_scale: torch.Tensor | None,
    norm: str,
    norm_weight: torch.Tensor | None,
    norm_bias: torch.Tensor | None,
) -> None:
    """Raises ValueError for what `ops.quantize_rows` does not take."""
    if not 2 <= x.ndim <= 4:
        raise ValueError(f"quantize_rows: x must have 2 to 4 dimensions, got {list(x.shape)}")
    if not x.is_floating_point() or x.itemsize == 1:
        raise ValueError(f"quantize_rows: x must be float32, bfloat16 or float16, got {x.dtype}")
    if dtype not in CODES:
        raise ValueError(f"quantize_rows: dtype must be int8 or float8_e4m3fn, got {dtype}")
    if scale is not None and scale.numel() != 1:
        raise ValueError(f"quantize_rows: a static scale has one element, got {list(scale.shape)}")
    if norm not in NORMS:
        raise ValueError(f"quantize_rows: norm must be one of {', '.join(NORMS)}, got '{norm}'")
    for name, vector in (
        ("pre_quant_scale", pre_quant_scale),
        ("norm.weight", norm_weight),
        ("norm.bias", norm_bias),
    ):
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(
                f"quantize_rows: {name} must have the shape {list(x.shape[-1:])}, got {list(vector.shape)}"
            )


def check_scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None,
) -> None:
    """Raises ValueError for what `ops.scaled_mm` does not take."""
    if not 2 <= a.ndim <= 4 or b.ndim != 2:
        raise ValueError(f"scaled_mm: a must be [..., K] of 2 to 4 dimensions and b [N, K], got {_shapes(a, b)}")
    if a.dtype not in CODES or a.dtype != b.dtype:
        raise ValueError(f"scaled_mm: a and b must both be int8 or both float8_e4m3fn, got {a.dtype} and {b.dtype}")
    n, k = b.shape
    if a.shape[-1] != k:
        raise ValueError(f"scaled_mm: a and b must have the same K, got {_shapes(a, b)}")
    if a.dtype == torch.int8 and k > LARGEST_INT8_K:
        raise ValueError(f"scaled_mm: K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}")
    if a_scale.numel() != 1 and a_scale.shape != (*a.shape[:-1], 1):
        raise ValueError(f"scaled_mm: a_scale must be one element or one a row, got {list(a_scale.shape)}")
    if b_scale.numel() not in (1, n):
        raise ValueError(f"scaled_mm: b_scale must have 1 or N = {n} elements, got {list(b_scale.shape)}")
    if bias is not None and bias.shape != b.shape[:1]:
        raise ValueError(f"scaled_mm: bias must have the shape [{n}], got {list(bias.shape)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"scaled_mm: unknown activation '{activation}'; known: {', '.join(ACTIVATIONS)}")
    if (out_dtype in CODES) != (out_scale is not None):
        raise ValueError(f"scaled_mm: out_scale goes with codes as output and with nothing else, got {out_dtype}")


def _shapes(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"{list(a.shape)} and {list(b.shape)}"
