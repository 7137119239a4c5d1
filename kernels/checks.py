"""What the ops refuse, before anything runs: one ValueError that says what would fit.

Messages are made only when something is wrong: formatting a size would tie a compiled graph to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from quant.kernels.arguments import SCALE_BLOCK, Ending, Epilogue, Prologue

CODES = (torch.int8, torch.float8_e4m3fn)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "gelu", "gelu_tanh", "silu")
NORMS = ("none", "layer", "rms")
#: INT32 holds the sum of K products of two codes up to this K: K * 127**2 < 2**31.
LARGEST_INT8_K = (2**31 - 1) // 127**2


def check_quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue, group: int = 0
) -> None:
    """Raises ValueError for what `ops.quantize_rows` does not take."""
    if not 2 <= x.ndim <= 4:
        raise ValueError(f"quantize_rows: x must have 2 to 4 dimensions, got {list(x.shape)}")
    if x.dtype not in FLOATS:
        raise ValueError(f"quantize_rows: x must be float32, bfloat16 or float16, got {x.dtype}")
    if dtype not in CODES:
        raise ValueError(f"quantize_rows: dtype must be int8 or float8_e4m3fn, got {dtype}")
    if scale is not None and (scale.numel() != 1 or scale.dtype != torch.float32):
        raise ValueError(f"quantize_rows: a static scale is one float32, got {list(scale.shape)} of {scale.dtype}")
    if group < 0 or (group and scale is not None):
        raise ValueError(f"quantize_rows: group is a number of columns whose scale is found, not given, got {group}")
    if prologue.norm not in NORMS:
        raise ValueError(f"quantize_rows: norm must be one of {', '.join(NORMS)}, got '{prologue.norm}'")
    check_operands("quantize_rows", x, {"scale": scale, **prologue._asdict()})
    for name in ("pre_quant_scale", "norm_weight", "norm_bias"):
        vector = getattr(prologue, name)
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(
                f"quantize_rows: {name} must have the shape {list(x.shape[-1:])}, got {list(vector.shape)}"
            )
    for name in ("modulation_scale", "modulation_shift"):
        _check_broadcast("quantize_rows", name, getattr(prologue, name), x.shape)


def check_scaled_mm(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> None:
    """Raises ValueError for what `ops.scaled_mm` does not take."""
    if not 2 <= a.ndim <= 4 or b.ndim != 2:
        raise ValueError(f"scaled_mm: a must be [..., K] of 2 to 4 dimensions and b [N, K], got {_shapes(a, b)}")
    if a.dtype not in CODES or a.dtype != b.dtype:
        raise ValueError(f"scaled_mm: a and b must both be int8 or both float8_e4m3fn, got {a.dtype} and {b.dtype}")
    check_operands("scaled_mm", a, {"b": b, **epilogue._asdict()}, codes=("b",))
    n, k = b.shape
    if a.shape[-1] != k:
        raise ValueError(f"scaled_mm: a and b must have the same K, got {_shapes(a, b)}")
    if a.dtype == torch.int8 and k > LARGEST_INT8_K:
        raise ValueError(f"scaled_mm: K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}")
    _check_scales(epilogue, a.shape[:-1], n, k)
    check_ending("scaled_mm", epilogue, (*a.shape[:-1], n))


def check_ending(op: str, ending: Epilogue | Ending, shape: Sequence[int]) -> None:
    """Raises ValueError for what no matmul takes behind its sums [..., N] of this shape."""
    n = shape[-1]
    if ending.bias is not None and ending.bias.shape != (n,):
        raise ValueError(f"{op}: bias must have the shape [{n}], got {list(ending.bias.shape)}")
    for name in ("residual", "gate"):
        _check_broadcast(op, name, getattr(ending, name), shape)
    if ending.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"{op}: unknown activation '{ending.activation}'; known: {known}")
    if ending.out_dtype not in (*FLOATS, *CODES):
        raise ValueError(f"{op}: out_dtype must be float32, bfloat16, float16 or codes, got {ending.out_dtype}")
    out_scale = ending.out_scale
    if (ending.out_dtype in CODES) != (out_scale is not None):
        raise ValueError(f"{op}: out_scale goes with codes as output and only then, got {ending.out_dtype}")
    if out_scale is not None and (out_scale.dtype != torch.float32 or out_scale.numel() != 1):
        raise ValueError(f"{op}: out_scale must be one float32, got {list(out_scale.shape)} of {out_scale.dtype}")


def check_operands(op: str, first: torch.Tensor, others: Mapping[str, Any], codes: Sequence[str] = ()) -> None:
    """All on one device, and floats but for `codes`; a kernel follows an address wherever it leads."""
    for name, x in others.items():
        if not isinstance(x, torch.Tensor):
            continue
        if x.device != first.device:
            raise ValueError(f"{op}: {name} is on {x.device}, the input on {first.device}")
        if name not in codes and x.dtype not in FLOATS:
            raise ValueError(f"{op}: {name} must be float32, bfloat16 or float16, got {x.dtype}")


def _check_scales(epilogue: Epilogue, rows: Sequence[int], n: int, k: int) -> None:
    a_scale, b_scale = epilogue.a_scale, epilogue.b_scale
    for name, scale in (("a_scale", a_scale), ("b_scale", b_scale)):
        if scale.dtype != torch.float32:
            raise ValueError(f"scaled_mm: {name} must be float32, got {scale.dtype}")
    blocks = epilogue.has_block_scales(n, k)
    if b_scale.numel() != 1 and b_scale.numel() != n and not blocks:
        raise ValueError(
            f"scaled_mm: b_scale must have 1 or N = {n} elements, or be [{-(-n // SCALE_BLOCK)}, "
            f"{-(-k // SCALE_BLOCK)}] for blocks of {SCALE_BLOCK}, got {list(b_scale.shape)}"
        )
    if (
        a_scale.numel() != 1
        and a_scale.shape != (*rows, 1)
        and not (blocks and a_scale.shape == (*rows, b_scale.shape[1]))
    ):
        raise ValueError(
            f"scaled_mm: a_scale must be one element or one a row (with a b_scale by block also one a row and block), "
            f"got {list(a_scale.shape)}"
        )


def _check_broadcast(op: str, name: str, x: torch.Tensor | None, shape: Sequence[int]) -> None:
    if x is None:
        return
    # Two comparisons, as dynamo says "not in" of `1 in (1, size)` where the size is symbolic.
    pairs = zip(x.shape[::-1], shape[::-1], strict=False)
    fits = x.ndim <= len(shape) and all(own == 1 or own == size for own, size in pairs)
    if not fits:
        raise ValueError(f"{op}: {name} must broadcast to {list(shape)}, got {list(x.shape)}")


def _shapes(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"{list(a.shape)} and {list(b.shape)}"
