"""What the ops with packed and sparse weights refuse, before anything runs: one ValueError that says what would fit."""

from __future__ import annotations

import torch

from quant.kernels.arguments import Ending
from quant.kernels.checks import CODES, FLOATS, LARGEST_INT8_K, check_ending, check_operands
from quant.kernels.layouts import int4_fragments, nibbles, sparse24
from quant.kernels.weight_orders import LAYOUTS, SPARSE_MODULES

#: INT32 holds the sum of so many products of a code and a nibble: K * 127 * 8 < 2**31.
LARGEST_INT4_GROUP = (2**31 - 1) // (127 * -nibbles.LOWEST)


def check_int4_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b_packed: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None,
    ending: Ending,
    layout: str = nibbles.NAME,
    n: int | None = None,
) -> None:
    """Raises ValueError for what `ops.int4_mm` does not take."""
    op = "int4_mm"
    _check_input(op, a, (*CODES, *FLOATS))
    k = a.shape[-1]
    if layout == nibbles.NAME and (
        b_packed.ndim != 2 or b_packed.dtype != torch.int32 or b_packed.shape[1] != nibbles.width(k)
    ):
        raise ValueError(
            f"{op}: b_packed must be int32 [N, {nibbles.width(k)}] for K = {k}, "
            f"got {list(b_packed.shape)} of {b_packed.dtype}"
        )
    n = _rows(op, b_packed, layout, n)
    if layout == nibbles.NAME:
        _check_groups(op, b_scale, n, k)
        groups = b_scale.shape[1]
    else:
        _check_part(op, "b_packed", b_packed, torch.int32, int4_fragments.shape(n, k), layout)
        _check_group_rows(op, b_scale, n, k, layout)
        groups = b_scale.shape[0]
    if b_zero is not None and (b_zero.dtype != torch.int8 or b_zero.shape != b_scale.shape):
        raise ValueError(f"{op}: b_zero must be int8 {list(b_scale.shape)}, got {list(b_zero.shape)} of {b_zero.dtype}")
    if b_zero is not None and a.dtype in CODES:
        raise ValueError(f"{op}: zero points are for an input of floats; codes take a symmetric weight")
    group = k // groups
    if a.dtype == torch.int8 and group > LARGEST_INT4_GROUP:
        raise ValueError(f"{op}: a group of {group} columns could overflow the INT32 sum; at most {LARGEST_INT4_GROUP}")
    _check_a_scale(op, a, a_scale)
    others = {"a_scale": a_scale, "b_packed": b_packed, "b_scale": b_scale, "b_zero": b_zero}
    check_operands(op, a, {**others, **ending._asdict()}, codes=("b_packed", "b_zero"))
    check_ending(op, ending, (*a.shape[:-1], n))


def check_int8_mm(a: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, ending: Ending) -> None:
    """Raises ValueError for what `ops.int8_mm` does not take."""
    op = "int8_mm"
    _check_input(op, a, FLOATS)
    if b.ndim != 2 or b.dtype != torch.int8 or b.shape[1] != a.shape[-1]:
        raise ValueError(f"{op}: b must be int8 [N, {a.shape[-1]}], got {list(b.shape)} of {b.dtype}")
    _check_groups(op, b_scale, b.shape[0], b.shape[1])
    check_operands(op, a, {"b": b, "b_scale": b_scale, **ending._asdict()}, codes=("b",))
    check_ending(op, ending, (*a.shape[:-1], b.shape[0]))


def check_sparse_scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b_values: torch.Tensor,
    b_meta: torch.Tensor,
    b_scale: torch.Tensor | None,
    ending: Ending,
    layout: str = sparse24.NAME,
    n: int | None = None,
) -> None:
    """Raises ValueError for what `ops.sparse_scaled_mm` does not take."""
    op = "sparse_scaled_mm"
    _check_input(op, a, (*CODES, *FLOATS))
    k = a.shape[-1]
    if k % sparse24.GROUP:
        raise ValueError(f"{op}: K must be a multiple of {sparse24.GROUP}, got {k}")
    if layout == sparse24.NAME and (b_values.ndim != 2 or b_values.dtype != a.dtype or b_values.shape[1] * 2 != k):
        raise ValueError(
            f"{op}: b_values must be {a.dtype} [N, {k // 2}], got {list(b_values.shape)} of {b_values.dtype}"
        )
    n = _rows(op, b_values, layout, n)
    if layout == sparse24.NAME:
        if b_meta.dtype != torch.uint8 or b_meta.shape != (n, sparse24.meta_width(k)):
            raise ValueError(
                f"{op}: b_meta must be uint8 [{n}, {sparse24.meta_width(k)}], "
                f"got {list(b_meta.shape)} of {b_meta.dtype}"
            )
    else:
        if a.itemsize > 2:
            raise ValueError(f"{op}: a weight in the order {layout} has elements of one or two bytes, a is {a.dtype}")
        values, meta = SPARSE_MODULES[layout].shapes(n, k, a.itemsize)
        _check_part(op, "b_values", b_values, a.dtype, values, layout)
        _check_part(op, "b_meta", b_meta, torch.int32, meta, layout)
    if a.dtype == torch.int8 and k > LARGEST_INT8_K:
        raise ValueError(f"{op}: K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}")
    _check_a_scale(op, a, a_scale)
    if (b_scale is None) != (a_scale is None):
        raise ValueError(f"{op}: codes have an a_scale and a b_scale, floats neither")
    # [1, N] is not taken for one a row: it could be mistaken for scales by block.
    if b_scale is not None and (
        b_scale.dtype != torch.float32 or not (b_scale.numel() == 1 or b_scale.shape == (n,) or b_scale.shape == (n, 1))
    ):
        raise ValueError(
            f"{op}: b_scale must be float32 [{n}, 1] or one element, got {list(b_scale.shape)} of {b_scale.dtype}"
        )
    others = {"a_scale": a_scale, "b_values": b_values, "b_meta": b_meta, "b_scale": b_scale}
    check_operands(op, a, {**others, **ending._asdict()}, codes=("b_values", "b_meta"))
    check_ending(op, ending, (*a.shape[:-1], n))


def _check_input(op: str, a: torch.Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if not 2 <= a.ndim <= 4:
        raise ValueError(f"{op}: a must be [..., K] of 2 to 4 dimensions, got {list(a.shape)}")
    if a.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{op}: a must be one of {known}, got {a.dtype}")


def _rows(op: str, weight: torch.Tensor, layout: str, n: int | None) -> int:
    """The rows of a weight: those of its tensors in the plain order, elsewhere n."""
    known = LAYOUTS[op]
    if layout not in known:
        raise ValueError(f"{op}: no order of a weight is called '{layout}'; there are {', '.join(known)}")
    if layout == known[0]:
        if n is not None and n != weight.shape[0]:
            raise ValueError(f"{op}: n must be the weight's {weight.shape[0]} rows, got {n}")
        return weight.shape[0]
    if n is None:
        raise ValueError(f"{op}: a weight in the order {layout} needs n, its number of rows")
    return n


def _check_part(op: str, name: str, x: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], layout: str) -> None:
    if x.dtype != dtype or x.shape != shape:
        raise ValueError(
            f"{op}: {name} must be {str(dtype).removeprefix('torch.')} {list(shape)} in the order {layout}, "
            f"got {list(x.shape)} of {x.dtype}"
        )


def _check_group_rows(op: str, scale: torch.Tensor, n: int, k: int, layout: str) -> None:
    width = int4_fragments.groups_width(n)
    fits = scale.ndim == 2 and scale.shape[1] == width and scale.shape[0] >= 1 and k % scale.shape[0] == 0
    if not fits or (scale.shape[0] > 1 and k // scale.shape[0] % 8):
        raise ValueError(
            f"{op}: b_scale must be [G, {width}] in the order {layout}, with one for each group of columns, a multiple "
            f"of 8 that divides K = {k}, or one a row; got {list(scale.shape)}"
        )


def _check_a_scale(op: str, a: torch.Tensor, a_scale: torch.Tensor | None) -> None:
    if (a.dtype in CODES) != (a_scale is not None):
        raise ValueError(f"{op}: a_scale goes with codes and only with them, a is {a.dtype}")
    if a_scale is not None and (
        a_scale.dtype != torch.float32 or (a_scale.numel() != 1 and a_scale.shape != (*a.shape[:-1], 1))
    ):
        raise ValueError(
            f"{op}: a_scale must be float32, one element or one a row, got {list(a_scale.shape)} of {a_scale.dtype}"
        )


def _check_groups(op: str, scale: torch.Tensor, n: int, k: int) -> None:
    fits = scale.ndim == 2 and scale.shape[0] == n and scale.shape[1] >= 1 and k % scale.shape[1] == 0
    if not fits or (scale.shape[1] > 1 and k // scale.shape[1] % 8):
        raise ValueError(
            f"{op}: b_scale must be [{n}, G] with one for each group of columns, a multiple of 8 that divides "
            f"K = {k}, or one a row; got {list(scale.shape)}"
        )
