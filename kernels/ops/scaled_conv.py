"""`scaled_conv`: a convolution of codes or floats with a quantized weight, in one, two or three spatial dimensions.

Its definition is a matmul: each position of the output is a row, the inputs that its window sees in the order of the
taps, and the weight's matmul op multiplies that row. Zeros round the input are code 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from quant.kernels import choosing, weight_orders
from quant.kernels.layouts import aligned_rows
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import CODES, FLOATS
from quant.kernels.ops.base import Op
from quant.kernels.ops.conv_matmuls import Ending, Weight, matmul_of
from quant.kernels.ops.matmul import epilogue
from quant.kernels.reference import apply_scales, finish
from quant.kernels.windows import Window, stretches

NAME = "scaled_conv"
#: Of unfolded rows and their sums, about: what is in memory at once while a convolution runs.
PIECE_BYTES = 32 * 2**20


def scaled_conv(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b: torch.Tensor,
    b_scale: torch.Tensor | None,
    b_zero: torch.Tensor | None = None,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    b_meta: torch.Tensor | None = None,
    layout: str | None = None,
    n: int | None = None,
) -> torch.Tensor:
    """out[sample, position] = (window of a there) @ b.T, scaled, + bias: [B, *out_spatial, N], channels last.

    K is taps x C, all C channels of the first tap first: `weight.movedim(1, -1).reshape(N, -1)` of the weight
    [N, C, *kernel_size] that torch's convolutions have. What b is says which matmul's weight it is:

    - int8 or float8_e4m3fn [N, K] of a's dtype: `scaled_mm`, also with rows padded to whole 16 bytes (`aligned_rows`);
    - int8 [N, K] with a of floats: `int8_mm`;
    - int32, packed: `int4_mm`, of floats or of codes;
    - any of these dtypes with `b_meta`: `sparse_scaled_mm`, b being its b_values.

    Args:
        a: [B, *spatial, C], 1 to 3 spatial dimensions: codes, int8 or float8_e4m3fn; or float32, bfloat16 or float16.
        a_scale: of codes, float32, one a sample, [B, 1], or one element for all; None of floats.
        b, b_scale, b_zero, b_meta, layout, n: the weight, as its matmul takes it.
        kernel_size, stride, padding, dilation: one number for each spatial dimension; padding is of both sides.
        bias: [N].
        out_dtype: float32, bfloat16 or float16.

    Raises:
        ValueError: a shape, dtype or device that does not fit, a window larger than the padded input, or a K whose INT8
            sum could overflow INT32.
    """
    weight = Weight(b, b_scale, b_zero, b_meta, layout, n)
    window = (list(kernel_size), list(stride), list(padding), list(dilation))
    out: torch.Tensor = OP(Arguments(a, a_scale, *weight, *window, bias, out_dtype))
    return out


class Arguments(NamedTuple):
    """As the schema has them."""

    a: torch.Tensor
    a_scale: torch.Tensor | None
    b: torch.Tensor
    b_scale: torch.Tensor | None
    b_zero: torch.Tensor | None
    b_meta: torch.Tensor | None
    layout: str | None
    n: int | None
    kernel_size: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    bias: torch.Tensor | None
    out_dtype: torch.dtype

    @property
    def weight(self) -> Weight:
        """The weight's tensors."""
        return Weight(self.b, self.b_scale, self.b_zero, self.b_meta, self.layout, self.n)

    @property
    def window(self) -> Window:
        """What a position of the output sees."""
        return Window(tuple(self.kernel_size), tuple(self.stride), tuple(self.padding), tuple(self.dilation))

    @property
    def sizes(self) -> list[int]:
        """Samples and positions of the output: [B, *out_spatial]."""
        return [self.a.shape[0], *self.window.sizes(self.a.shape[1:-1])]

    @property
    def out_channels(self) -> int:
        """N."""
        return self.b.shape[0] if self.n is None else self.n

    @property
    def ending(self) -> Ending:
        """What follows the sums."""
        return Ending(self.bias, "none", None, None, self.out_dtype, None)


SCHEMA = (
    "(Tensor a, Tensor? a_scale, Tensor b, Tensor? b_scale, Tensor? b_zero, Tensor? b_meta, str? layout, SymInt? n, "
    "int[] kernel_size, int[] stride, int[] padding, int[] dilation, Tensor? bias, ScalarType out_dtype) -> Tensor"
)


def fake(given: Arguments) -> torch.Tensor:
    """The result without its numbers."""
    return given.a.new_empty([*given.sizes, given.out_channels], dtype=given.out_dtype)


def check(given: Arguments) -> None:
    """Raises ValueError for what the op does not take; of the weight, what its matmul does not take."""
    a, a_scale, weight = given.a, given.a_scale, given.weight
    if not 3 <= a.ndim <= 5 or a.shape[-1] < 1:
        raise ValueError(f"{NAME}: a must be [B, *spatial, C] of 1 to 3 spatial dimensions, got {list(a.shape)}")
    if a.dtype not in (*CODES, *FLOATS):
        raise ValueError(f"{NAME}: a must be int8, float8_e4m3fn, float32, bfloat16 or float16, got {a.dtype}")
    _check_window(given)
    if given.out_dtype not in FLOATS:
        raise ValueError(f"{NAME}: out_dtype must be float32, bfloat16 or float16, got {given.out_dtype}")
    if (a.dtype in CODES) != (a_scale is not None):
        raise ValueError(f"{NAME}: a_scale goes with codes and only with them, a is {a.dtype}")
    if a_scale is not None and (
        a_scale.dtype != torch.float32 or (a_scale.numel() != 1 and a_scale.shape != (a.shape[0], 1))
    ):
        raise ValueError(
            f"{NAME}: a_scale must be float32, one element or one a sample, [{a.shape[0]}, 1], "
            f"got {list(a_scale.shape)} of {a_scale.dtype}"
        )
    matmul, k = matmul_of(weight, a.dtype), given.window.taps * a.shape[-1]
    matmul.check_parts(NAME, weight)
    if matmul.pads and weight.b.ndim == 2 and weight.b.shape[1] != matmul.columns(weight, k):
        raise ValueError(
            f"{NAME}: b must be [N, {k}], {list(given.kernel_size)} taps of {a.shape[-1]} channels, "
            f"got {list(weight.b.shape)}"
        )
    matmul.check(_of_samples(given), NAME)
    if given.out_channels < 1:
        raise ValueError(f"{NAME}: a weight has rows, got {list(weight.b.shape)}")


def _check_window(given: Arguments) -> None:
    spatial, window = given.a.shape[1:-1], given.window
    for name, numbers, least in zip(window._fields, window, (1, 1, 0, 1), strict=True):
        if len(numbers) != len(spatial) or min(numbers) < least:
            raise ValueError(
                f"{NAME}: {name} must be {len(spatial)} whole numbers from {least}, one for each spatial dimension of "
                f"a {list(given.a.shape)}, got {list(numbers)}"
            )
    for size, zeros, extent in zip(spatial, window.padding, window.extents, strict=True):
        if size + 2 * zeros < extent:
            raise ValueError(
                f"{NAME}: a window of {list(window.extents)} does not fit in a {list(given.a.shape)} with "
                f"{list(window.padding)} zeros on both sides"
            )


def _of_samples(given: Arguments) -> Any:
    """Arguments of the weight's matmul with one row a sample, which stands for all of them: no numbers are in it."""
    a, weight = given.a, given.weight
    matmul = matmul_of(weight, a.dtype)
    k = matmul.columns(weight, given.window.taps * a.shape[-1])
    return matmul.arguments(a.new_empty(1, 1).expand(a.shape[0], k), given.a_scale, weight, given.ending)


def call_of(given: Arguments) -> Call:
    """That of the weight's matmul, with a row for each position of the output."""
    call = matmul_of(given.weight, given.a.dtype).op.call_of(_of_samples(given))
    return replace(call, op=NAME, m=math.prod(given.sizes))


def run(given: Arguments) -> torch.Tensor:
    """By the implementation that is chosen; where the windows are the input's own rows, as the matmul that it is."""
    if given.window.is_pointwise:
        return _unfolded(given, math.prod(given.sizes))
    out: torch.Tensor = OP.chosen(given)(given)
    return out


def reference(given: Arguments) -> torch.Tensor:
    """All windows as rows, multiplied by the reference of the weight's matmul."""
    with choosing.among("reference"):
        return _unfolded(given, math.prod(given.sizes))


def by_unfolding(given: Arguments) -> torch.Tensor:
    """Some windows at a time, multiplied by whatever runs the weight's matmul there."""
    row = given.window.taps * given.a.shape[-1] * given.a.itemsize + 4 * given.out_channels
    return _unfolded(given, PIECE_BYTES // row)


def _unfolded(given: Arguments, most: int) -> torch.Tensor:
    """At most so many windows at a time, but at least one, as the rows of the weight's matmul."""
    weight, window, out = given.weight, given.window, fake(given)
    matmul = matmul_of(weight, given.a.dtype)
    views, k = window.views(window.padded(given.a)), window.taps * given.a.shape[-1]
    wider = matmul.columns(weight, k) > k
    flat = out.view(-1, given.out_channels)
    for piece, rows, scales in _pieces(given, most):
        seen = views[piece].reshape(-1, k)
        a = aligned_rows.pack(seen) if wider else seen
        flat[rows] = matmul.op.run(matmul.arguments(a, scales, weight, given.ending))
    return out


def by_floats(given: Arguments) -> torch.Tensor:
    """Some windows at a time as float32, multiplied by the weight as float32, which is decoded once."""
    a, window, out = given.a, given.window, fake(given)
    k, n = window.taps * a.shape[-1], given.out_channels
    matrix = matmul_of(given.weight, a.dtype).matrix(_of_samples(given))[:, :k]
    b_scale = given.b_scale if a.dtype in CODES else None
    padded, flat = window.padded(a), out.view(-1, n)
    for piece, rows, scales in _pieces(given, PIECE_BYTES // (4 * (k + n))):
        seen = window.views(padded[window.seen(piece)].float()).reshape(-1, k)
        ending = epilogue(given.ending, a, n, scales, b_scale)
        flat[rows] = finish(apply_scales(seen @ matrix.T, ending), ending)
    return out


def _pieces(given: Arguments, most: int) -> Iterator[tuple[tuple[slice, ...], slice, torch.Tensor | None]]:
    """Boxes of at most so many positions of the output, their rows among all of it, and the scales of those."""
    scales, sizes = given.a_scale, given.sizes
    if scales is not None and scales.numel() != 1:
        scales = scales.expand(-1, math.prod(sizes[1:])).reshape(-1, 1)
    start = 0
    for piece in stretches(sizes, most):
        rows = slice(start, start + math.prod(each.stop - each.start for each in piece))
        yield piece, rows, scales if scales is None or scales.numel() == 1 else scales[rows]
        start = rows.stop


#: Sums of codes by group, and of blocks, are not one product: those run unfolded.
_ON_CPU = (
    Limits(devices=("cpu",), dtypes=FLOATS),
    Limits(
        devices=("cpu",),
        dtypes=(torch.float8_e4m3fn,),
        block_scales=False,
        groups=False,
        layouts=weight_orders.SPARSE24,
    ),
)
_UNFOLDED = "its windows are unfolded in memory, some at a time, and multiplied as the rows of a matmul"
_PLAIN = (
    Implementation("float32_matmuls", NAME, _ON_CPU, by_floats),
    Implementation("unfolded_matmuls", NAME, (Limits(),), by_unfolding, instead=_UNFOLDED),
    Implementation("reference", NAME, (Limits(),), reference),
)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
