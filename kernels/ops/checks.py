"""What several ops refuse, before anything runs: one ValueError that says what would fit.

Messages are made only when something is wrong: formatting a size would tie a compiled graph to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from quant.kernels.numerics import CODES, FLOATS
from quant.kernels.ops.matmul import Ending

ACTIVATIONS = ("none", "gelu", "gelu_tanh", "silu")


def check_input(op: str, a: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raises ValueError for an input that a matmul with a packed or sparse weight does not take."""
    if not 2 <= a.ndim <= 4:
        raise ValueError(f"{op}: a must be [..., K] of 2 to 4 dimensions, got {list(a.shape)}")
    if a.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{op}: a must be one of {known}, got {a.dtype}")


def check_a_scale(op: str, a: torch.Tensor, a_scale: torch.Tensor | None) -> None:
    """Raises ValueError for other scales of an input than codes have, one a row or one in all."""
    if (a.dtype in CODES) != (a_scale is not None):
        raise ValueError(f"{op}: a_scale goes with codes and only with them, a is {a.dtype}")
    if a_scale is not None and (
        a_scale.dtype != torch.float32 or (a_scale.numel() != 1 and a_scale.shape != (*a.shape[:-1], 1))
    ):
        raise ValueError(
            f"{op}: a_scale must be float32, one element or one a row, got {list(a_scale.shape)} of {a_scale.dtype}"
        )


def check_groups(op: str, scale: torch.Tensor, n: int, k: int) -> None:
    """Raises ValueError for scales by group that are not of a weight [n, k]."""
    fits = scale.ndim == 2 and scale.shape[0] == n and scale.shape[1] >= 1 and k % scale.shape[1] == 0
    if not fits or (scale.shape[1] > 1 and k // scale.shape[1] % 8):
        raise ValueError(
            f"{op}: b_scale must be [{n}, G] with one for each group of columns, a multiple of 8 that divides "
            f"K = {k}, or one a row; got {list(scale.shape)}"
        )


def check_rows(op: str, weight: torch.Tensor, layout: str, layouts: Sequence[str], n: int | None) -> int:
    """N: the rows of a weight's tensors in the plain order, which is the first of `layouts`, elsewhere n.

    Raises:
        ValueError: no such order, or rows that are not the weight's.
    """
    if layout not in layouts:
        raise ValueError(f"{op}: no order of a weight is called '{layout}'; there are {', '.join(layouts)}")
    if layout == layouts[0]:
        if n is not None and n != weight.shape[0]:
            raise ValueError(f"{op}: n must be the weight's {weight.shape[0]} rows, got {n}")
        return weight.shape[0]
    if n is None:
        raise ValueError(f"{op}: a weight in the order {layout} needs n, its number of rows")
    return n


def check_part(op: str, name: str, x: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], layout: str) -> None:
    """Raises ValueError for a tensor of a weight that is not what its order asks for."""
    if x.dtype != dtype or x.shape != shape:
        raise ValueError(
            f"{op}: {name} must be {str(dtype).removeprefix('torch.')} {list(shape)} in the order {layout}, "
            f"got {list(x.shape)} of {x.dtype}"
        )


def check_ending(op: str, ending: Ending, shape: Sequence[int]) -> None:
    """Raises ValueError for what no matmul takes behind its sums [..., N] of this shape."""
    n = shape[-1]
    if ending.bias is not None and ending.bias.shape != (n,):
        raise ValueError(f"{op}: bias must have the shape [{n}], got {list(ending.bias.shape)}")
    for name, x in (("residual", ending.residual), ("gate", ending.gate)):
        check_broadcast(op, name, x, shape)
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
    """Raises ValueError where not all are on one device, and floats but for `codes`: a kernel follows an address
    wherever it leads.
    """
    for name, x in others.items():
        if not isinstance(x, torch.Tensor):
            continue
        if x.device != first.device:
            raise ValueError(f"{op}: {name} is on {x.device}, the input on {first.device}")
        if name not in codes and x.dtype not in FLOATS:
            raise ValueError(f"{op}: {name} must be float32, bfloat16 or float16, got {x.dtype}")


def check_broadcast(op: str, name: str, x: torch.Tensor | None, shape: Sequence[int]) -> None:
    """Raises ValueError for an operand that does not broadcast to `shape`."""
    if x is None:
        return
    # Two comparisons, as dynamo says "not in" of `1 in (1, size)` where the size is symbolic.
    pairs = zip(x.shape[::-1], shape[::-1], strict=False)
    fits = x.ndim <= len(shape) and all(own == 1 or own == size for own, size in pairs)
    if not fits:
        raise ValueError(f"{op}: {name} must broadcast to {list(shape)}, got {list(x.shape)}")
