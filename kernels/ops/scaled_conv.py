"""`scaled_conv`: a convolution of codes or floats with a quantized weight, in one, two or three spatial dimensions.

Its definition is a matmul: each position of the output is a row, the inputs that its window sees in the order of the
taps, and the weight's matmul op multiplies that row. Zeros round the input are code 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

NAME = "scaled_conv"


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
    raise NotImplementedError
