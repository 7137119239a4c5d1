"""What the ops with packed and sparse weights refuse, each with what would fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels import ops
from quant.kernels.numerics import LARGEST_INT8_K
from quant.kernels.ops.int4_mm import LARGEST_INT4_GROUP

FP8 = torch.float8_e4m3fn
Change = dict[str, Any]


def zeros(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device=device)


#: Of the ending, for [4, 6].
ENDING: list[tuple[Change, str]] = [
    ({"bias": torch.ones(3)}, r"bias must have the shape \[6\], got \[3\]"),
    ({"bias": torch.ones(6).double()}, "bias must be float32, bfloat16 or float16"),
    ({"bias": torch.ones(6, device="meta")}, "bias is on meta, the input on cpu"),
    ({"residual": torch.ones(3, 6)}, r"residual must broadcast to \[4, 6\], got \[3, 6\]"),
    ({"gate": torch.ones(2, 4, 6)}, r"gate must broadcast to \[4, 6\]"),
    ({"activation": "relu"}, "unknown activation 'relu'; known: none, gelu"),
    ({"out_dtype": torch.float64}, "out_dtype must be float32, bfloat16, float16 or codes"),
    ({"out_dtype": torch.int8}, "out_scale goes with codes"),
    ({"out_scale": torch.ones(1)}, "out_scale goes with codes"),
    ({"out_dtype": FP8, "out_scale": torch.ones(2)}, r"out_scale must be one float32, got \[2\] of torch.float32"),
    ({"out_dtype": FP8, "out_scale": torch.ones(1).half()}, "out_scale must be one float32, got .* of torch.float16"),
]
GROUPS = r"b_scale must be \[6, G\] with one for each group of columns, a multiple of 8 that divides K = 48"
#: Of scales of groups, for a weight [6, 48].
BY_GROUP: list[tuple[Change, str]] = [
    ({"b_scale": torch.ones(5, 3)}, GROUPS),
    ({"b_scale": torch.ones(6)}, GROUPS),
    ({"b_scale": torch.ones(6, 0)}, GROUPS),
    ({"b_scale": torch.ones(6, 5)}, rf"{GROUPS}, or one a row; got \[6, 5\]"),
    ({"b_scale": torch.ones(6, 4)}, GROUPS),  # groups of 12
    ({"b_scale": torch.ones(6, 3).double()}, "b_scale must be float32, bfloat16 or float16"),
    ({"b_scale": torch.ones(6, 3, device="meta")}, "b_scale is on meta, the input on cpu"),
]

FLOAT4: Change = {
    "a": zeros(4, 48),
    "b_packed": zeros(6, 6, dtype=torch.int32),
    "b_scale": torch.ones(6, 3).bfloat16(),
    "b_zero": zeros(6, 3, dtype=torch.int8),
    "out_dtype": torch.float32,
}
BAD_FLOAT4: list[tuple[Change, str]] = [
    ({"a": zeros(48)}, r"a must be \[..., K\] of 2 to 4 dimensions, got \[48\]"),
    ({"a": zeros(1, 1, 1, 4, 48)}, "2 to 4 dimensions"),
    ({"a": zeros(4, 48).double()}, "a must be one of int8, float8_e4m3fn, float32, bfloat16, float16, got .*float64"),
    ({"a": zeros(4, 49)}, r"b_packed must be int32 \[N, 7\] for K = 49, got \[6, 6\]"),
    ({"b_packed": zeros(6, 6).long()}, "b_packed must be int32 .* of torch.int64"),
    ({"b_packed": zeros(6).int()}, "b_packed must be int32"),
    ({"b_packed": zeros(6, 6, dtype=torch.int32, device="meta")}, "b_packed is on meta, the input on cpu"),
    ({"b_zero": zeros(6, 1, dtype=torch.int8)}, r"b_zero must be int8 \[6, 3\], got \[6, 1\] of torch.int8"),
    ({"b_zero": zeros(6, 3)}, r"b_zero must be int8 \[6, 3\], got \[6, 3\] of torch.float32"),
    ({"b_zero": zeros(6, 3, dtype=torch.int8, device="meta")}, "b_zero is on meta"),
    ({"a_scale": torch.ones(4, 1)}, "a_scale goes with codes and only with them, a is torch.float32"),
    *BY_GROUP,
    *ENDING,
]
CODES4: Change = {**FLOAT4, "a": zeros(4, 48, dtype=torch.int8), "b_zero": None, "a_scale": torch.ones(4, 1)}
BAD_CODES4: list[tuple[Change, str]] = [
    ({"a_scale": None}, "a_scale goes with codes and only with them, a is torch.int8"),
    ({"a": zeros(4, 48).to(FP8), "a_scale": None}, "a_scale goes with codes"),
    ({"a_scale": torch.ones(3, 1)}, r"a_scale must be float32, one element or one a row, got \[3, 1\]"),
    ({"a_scale": torch.ones(4)}, "one element or one a row"),
    ({"a_scale": torch.ones(4, 3)}, "one element or one a row"),
    ({"a_scale": torch.ones(4, 1).half()}, "a_scale must be float32, .* of torch.float16"),
    ({"a_scale": torch.ones(4, 1, device="meta")}, "a_scale is on meta"),
    ({"b_zero": zeros(6, 3, dtype=torch.int8)}, "zero points are for an input of floats"),
]
FLOAT8: Change = {
    "a": zeros(4, 48).half(),
    "b": zeros(6, 48, dtype=torch.int8),
    "b_scale": torch.ones(6, 3),
    "out_dtype": torch.float32,
}
BAD_FLOAT8: list[tuple[Change, str]] = [
    ({"a": zeros(48)}, "2 to 4 dimensions"),
    ({"a": zeros(4, 48, dtype=torch.int8)}, "a must be one of float32, bfloat16, float16, got torch.int8"),
    ({"b": zeros(6, 47, dtype=torch.int8)}, r"b must be int8 \[N, 48\], got \[6, 47\]"),
    ({"b": zeros(6, 48).to(FP8)}, r"b must be int8 \[N, 48\], got .* of torch.float8_e4m3fn"),
    ({"b": zeros(48, dtype=torch.int8)}, "b must be int8"),
    ({"b": zeros(6, 48, dtype=torch.int8, device="meta")}, "b is on meta"),
    *BY_GROUP,
    *ENDING,
]
SPARSE: Change = {
    "a": zeros(4, 12, dtype=torch.int8),
    "a_scale": torch.ones(4, 1),
    "b_values": zeros(6, 6, dtype=torch.int8),
    "b_meta": zeros(6, 2, dtype=torch.uint8),
    "b_scale": torch.ones(6, 1),
    "out_dtype": torch.float32,
}
BAD_SPARSE: list[tuple[Change, str]] = [
    ({"a": zeros(12, dtype=torch.int8)}, "2 to 4 dimensions"),
    ({"a": zeros(4, 12).int()}, "a must be one of int8, float8_e4m3fn, float32"),
    ({"a": zeros(4, 10, dtype=torch.int8)}, "K must be a multiple of 4, got 10"),
    ({"a": zeros(4, 16, dtype=torch.int8)}, r"b_values must be torch.int8 \[N, 8\], got \[6, 6\]"),
    ({"a": zeros(4, 12).to(FP8)}, r"b_values must be torch.float8_e4m3fn \[N, 6\], got \[6, 6\] of torch.int8"),
    ({"b_values": zeros(6, dtype=torch.int8)}, "b_values must be"),
    ({"b_values": zeros(6, 6, dtype=torch.int8, device="meta")}, "b_values is on meta"),
    ({"b_meta": zeros(6, 1, dtype=torch.uint8)}, r"b_meta must be uint8 \[6, 2\], got \[6, 1\]"),
    ({"b_meta": zeros(5, 2, dtype=torch.uint8)}, r"b_meta must be uint8 \[6, 2\], got \[5, 2\]"),
    ({"b_meta": zeros(6, 2, dtype=torch.int8)}, r"b_meta must be uint8 \[6, 2\], got \[6, 2\] of torch.int8"),
    ({"b_meta": zeros(6, 2, dtype=torch.uint8, device="meta")}, "b_meta is on meta"),
    ({"a_scale": None}, "a_scale goes with codes"),
    ({"a_scale": torch.ones(3, 1)}, "one element or one a row"),
    ({"b_scale": None}, "codes have an a_scale and a b_scale, floats neither"),
    ({"b_scale": torch.ones(5, 1)}, r"b_scale must be float32 \[6, 1\] or one element, got \[5, 1\]"),
    ({"b_scale": torch.ones(1, 6)}, r"b_scale must be float32 \[6, 1\] or one element, got \[1, 6\]"),
    ({"b_scale": torch.ones(6, 1).half()}, "b_scale must be float32 .* of torch.float16"),
    ({"b_scale": torch.ones(6, 1, device="meta")}, "b_scale is on meta"),
    *ENDING,
]
SPARSE_FLOAT: Change = {**SPARSE, "a": zeros(4, 12), "b_values": zeros(6, 6), "a_scale": None, "b_scale": None}
BAD_SPARSE_FLOAT: list[tuple[Change, str]] = [
    ({"a_scale": torch.ones(4, 1)}, "a_scale goes with codes and only with them, a is torch.float32"),
    ({"b_scale": torch.ones(6, 1)}, "codes have an a_scale and a b_scale, floats neither"),
    ({"b_values": zeros(6, 6).half()}, r"b_values must be torch.float32 \[N, 6\], got \[6, 6\] of torch.float16"),
]
#: A weight [6, 48] in the order of lanes: one slab, one block.
LANES4: Change = {
    "a": zeros(4, 48),
    "b_packed": zeros(1, 1, 32, 4, dtype=torch.int32),
    "b_scale": torch.ones(3, 16).bfloat16(),
    "b_zero": zeros(3, 16, dtype=torch.int8),
    "out_dtype": torch.float32,
    "layout": "int4_fragments_16",
    "n": 6,
}
GROUP_ROWS = r"b_scale must be \[G, 16\] in the order int4_fragments_16, with one for each group of columns"
BAD_LANES4: list[tuple[Change, str]] = [
    ({"layout": "lanes"}, "no order of a weight is called 'lanes'; there are nibbles, int4_fragments_16, int4_frag"),
    ({"layout": "mma_sparse24"}, "no order of a weight is called 'mma_sparse24'"),
    ({"layout": "nibbles"}, r"b_packed must be int32 \[N, 6\] for K = 48, got \[1, 1, 32, 4\]"),
    ({"n": None}, "a weight in the order int4_fragments_16 needs n, its number of rows"),
    (
        {"n": 17},
        r"b_packed must be int32 \[1, 2, 32, 4\] in the order int4_fragments_16, got \[1, 1, 32, 4\] of torch.int32",
    ),
    ({"a": zeros(4, 72)}, r"b_packed must be int32 \[2, 1, 32, 4\] in the order int4_fragments_16"),
    ({"b_packed": zeros(6, 6, dtype=torch.int32)}, r"b_packed must be int32 \[1, 1, 32, 4\] .* got \[6, 6\]"),
    ({"b_packed": zeros(1, 1, 32, 4).long()}, "b_packed must be int32 .* of torch.int64"),
    ({"b_packed": zeros(1, 1, 32, 4, device="meta").int()}, "b_packed is on meta"),
    ({"b_scale": torch.ones(6, 3)}, rf"{GROUP_ROWS}, .* that divides K = 48, or one a row; got \[6, 3\]"),
    ({"b_scale": torch.ones(16)}, GROUP_ROWS),
    ({"b_scale": torch.ones(0, 16)}, GROUP_ROWS),
    ({"b_scale": torch.ones(5, 16)}, GROUP_ROWS),
    ({"b_scale": torch.ones(4, 16)}, GROUP_ROWS),  # groups of 12
    ({"b_zero": zeros(6, 3, dtype=torch.int8)}, r"b_zero must be int8 \[3, 16\], got \[6, 3\]"),
    ({"bias": torch.ones(16)}, r"bias must have the shape \[6\], got \[16\]"),
    *[(change, says) for change, says in ENDING if "bias" not in change],
]
LANES_SPARSE: Change = {
    **SPARSE,
    "b_values": zeros(1, 1, 32, 16, dtype=torch.int8),
    "b_meta": zeros(1, 1, 32, dtype=torch.int32),
    "layout": "mma_sparse24",
    "n": 6,
}
BAD_LANES_SPARSE: list[tuple[Change, str]] = [
    ({"layout": "nibbles"}, "no order of a weight is called 'nibbles'; there are sparse24, mma_sparse24, wgmma_spar"),
    ({"layout": "sparse24"}, r"b_values must be torch.int8 \[N, 6\], got \[1, 1, 32, 16\]"),
    ({"n": None}, "a weight in the order mma_sparse24 needs n"),
    ({"a": zeros(4, 10, dtype=torch.int8)}, "K must be a multiple of 4, got 10"),
    ({"a": zeros(4, 12).to(FP8)}, r"b_values must be float8_e4m3fn \[1, 1, 32, 16\] .* of torch.int8"),
    ({"a": zeros(4, 12)}, "the order mma_sparse24 has elements of one or two bytes, a is torch.float32"),
    ({"n": 17}, r"b_values must be int8 \[1, 2, 32, 16\] in the order mma_sparse24, got \[1, 1, 32, 16\]"),
    ({"b_meta": zeros(1, 1, 32, dtype=torch.uint8)}, r"b_meta must be int32 \[1, 1, 32\] .* of torch.uint8"),
    ({"b_meta": zeros(1, 2, 32, dtype=torch.int32)}, r"b_meta must be int32 \[1, 1, 32\] .* got \[1, 2, 32\]"),
    ({"b_scale": torch.ones(16, 1)}, r"b_scale must be float32 \[6, 1\] or one element, got \[16, 1\]"),
    ({"layout": "wgmma_sparse24"}, r"b_values must be int8 \[6, 16\] in the order wgmma_sparse24"),
]
THREADS_SPARSE: Change = {
    **LANES_SPARSE,
    "b_values": zeros(6, 16, dtype=torch.int8),
    "b_meta": zeros(1, 4, 128, 2, dtype=torch.int32),
    "layout": "wgmma_sparse24",
}
BAD_THREADS_SPARSE: list[tuple[Change, str]] = [
    ({"n": 5}, r"b_values must be int8 \[5, 16\] in the order wgmma_sparse24, got \[6, 16\]"),
    ({"b_values": zeros(6, 6, dtype=torch.int8)}, r"b_values must be int8 \[6, 16\] .* got \[6, 6\]"),
    ({"b_meta": zeros(1, 1, 128, 2).int()}, r"b_meta must be int32 \[1, 4, 128, 2\] .* got \[1, 1, 128, 2\]"),
]
#: The plain orders, with what only the others need.
PLAIN_ORDER = [
    ("int4_mm", {**FLOAT4, "layout": "nibbles", "n": 6}, {"n": 5}, "n must be the weight's 6 rows, got 5"),
    ("sparse_scaled_mm", {**SPARSE, "layout": "sparse24", "n": 6}, {"n": 7}, "n must be the weight's 6 rows, got 7"),
]
CASES = [
    *PLAIN_ORDER,
    *(
        (op, good, change, says)
        for op, good, bad in (
            ("int4_mm", FLOAT4, BAD_FLOAT4),
            ("int4_mm", CODES4, BAD_CODES4),
            ("int8_mm", FLOAT8, BAD_FLOAT8),
            ("sparse_scaled_mm", SPARSE, BAD_SPARSE),
            ("sparse_scaled_mm", SPARSE_FLOAT, BAD_SPARSE_FLOAT),
            ("int4_mm", LANES4, BAD_LANES4),
            ("sparse_scaled_mm", LANES_SPARSE, BAD_LANES_SPARSE),
            ("sparse_scaled_mm", THREADS_SPARSE, BAD_THREADS_SPARSE),
        )
        for change, says in bad
    ),
]


@pytest.mark.parametrize(("op", "good", "change", "says"), CASES)
def test_what_does_not_fit_is_refused(op: str, good: Change, change: Change, says: str) -> None:
    call = getattr(ops, op)
    assert call(**good).shape == (4, 6)
    with pytest.raises(ValueError, match=f"^{op}: .*{says}"):
        call(**{**good, **change})


def test_sums_that_could_overflow_are_refused() -> None:
    assert LARGEST_INT4_GROUP * 127 * 8 < 2**31 <= (LARGEST_INT4_GROUP + 1) * 127 * 8
    k = LARGEST_INT4_GROUP // 16 * 16 + 16  # one group is too long, two are not
    one = torch.ones(1, 1)
    four: Change = {"b_packed": zeros(1, k // 8, dtype=torch.int32), "a_scale": one, "out_dtype": torch.float32}
    a = zeros(1, k, dtype=torch.int8)
    with pytest.raises(ValueError, match=f"a group of {k} columns could overflow the INT32 sum; at most 2113665"):
        ops.int4_mm(a, b_scale=one, **four)
    assert ops.int4_mm(a, b_scale=one.expand(1, 2), **four).shape == (1, 1)
    k = LARGEST_INT8_K // 4 * 4 + 4
    meta = zeros(1, -(-k // 8), dtype=torch.uint8)
    a, values = zeros(1, k, dtype=torch.int8), zeros(1, k // 2, dtype=torch.int8)
    with pytest.raises(ValueError, match=f"K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}"):
        ops.sparse_scaled_mm(a, one, values, meta, one, out_dtype=torch.float32)
