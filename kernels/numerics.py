"""How a number becomes an 8-bit code: the one definition that files, reference ops and kernels share.

INT8: s = amax / 127, code = clamp(round_half_even(x / s), -127, 127).
FP8 (e4m3): s = amax / 448, code = x / s clamped to ±448 and cast to the nearest e4m3, ties to even.
A division, not a product with a reciprocal: that would change 0.05% of the codes. Where amax is 0, s = 1.
"""

from __future__ import annotations

import torch

CODES = (torch.int8, torch.float8_e4m3fn)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
#: INT32 holds the sum of K products of two codes up to this K: K * 127**2 < 2**31.
LARGEST_INT8_K = (2**31 - 1) // 127**2
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
SMALLEST_SCALE = 2.0**-126  # a subnormal scale would lose its own precision


def exponent_of(values: torch.Tensor) -> torch.Tensor:
    """The int32 scalar e for which 2^e is the least power of two above all absolute values; between -120 and 120.

    `torch.ldexp(values, -e)` are the same values in a unit in which their squares neither overflow nor vanish, bit for
    bit: within these bounds a power of two and its inverse are normal float32s.

    Args:
        values: float, finite, not empty.
    """
    return torch.frexp(values.float().abs().amax()).exponent.clamp(-120, 120)


def scale_from_amax(amax: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The scale that maps `amax` to the largest code.

    Args:
        amax: any shape, not negative.
        dtype: torch.int8 or torch.float8_e4m3fn.

    Returns:
        float32 of the same shape, at least 2**-126, and 1 where amax is 0.
    """
    scale = (amax.float() / LARGEST[dtype]).clamp(min=SMALLEST_SCALE)
    return torch.where(amax == 0, torch.ones_like(scale), scale)


def encode(values: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Codes of `values` for a given scale that broadcasts to them; saturates, never wraps.

    Args:
        values: float, finite.
        scale: float32, positive.
        dtype: torch.int8 or torch.float8_e4m3fn.
    """
    scaled = values.float() / scale
    if dtype == torch.int8:
        scaled = scaled.round()
    return scaled.clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype)
