"""Whether a stored tensor can be what its place in a layer says, for files that no hash vouches for.

Tensor by tensor, so that it can be asked of a stream. Nothing here depends on who wrote the file: what decodes exactly
is right, also an INT8 code of -128, which our own writer never makes and compressed-tensors does.
"""

from __future__ import annotations

import torch

from quant.formats.grid import largest_code
from quant.formats.scheme import TensorFormat
from quant.kernels.numerics import SMALLEST_SCALE

_LARGEST = torch.finfo(torch.float32).max
#: The two e4m3 codes that are no numbers, by how their bits are read: no other code is larger, read so.
_NAN_CODES = ((torch.int8, 0x7F), (torch.uint8, 0xFF))
#: Bytes of codes looked at in one go, which stay in a core's cache.
_CHUNK = 2**20


def not_finite(tensor: torch.Tensor, start: int = 0) -> str | None:
    """Where a tensor has its first NaN or Inf; None where it has none. Whole numbers and codes have none.

    Args:
        tensor: any dtype and shape.
        start: the number of its first row, if it is some rows of another.
    """
    if not tensor.is_floating_point() or tensor.itemsize == 1 or not tensor.numel():
        return None
    if all(map(torch.isfinite, torch.aminmax(tensor))):  # which are NaN where any value is
        return None
    return outside(tensor, torch.ones_like(tensor, dtype=torch.bool), "weights are finite", start)


def no_scale(scale: torch.Tensor, of: TensorFormat) -> str | None:
    """Return which scale of a tensor in this format is none, and what would be one; None where all are scales."""
    largest = torch.tensor(_LARGEST / largest_code(of), dtype=scale.dtype, device=scale.device)
    fits = (scale >= SMALLEST_SCALE) & (scale <= largest)
    return outside(scale, fits, f"a scale is finite, at least 2**-126 and at most {_LARGEST / largest_code(of):.3g}")


def not_rising(edges: torch.Tensor) -> str | None:
    """Return which of some edges [E] is not above the one before; None where all rise."""
    rises = torch.ones_like(edges, dtype=torch.bool)
    rises[1:] = edges[1:] > edges[:-1]
    return outside(edges, rises, "each edge between bins is above the one before")


def outside(tensor: torch.Tensor, fits: torch.Tensor, right: str, start: int = 0) -> str | None:
    """Return the first value of a tensor that does not fit or is not finite, with what would be right; or None.

    `start` is the number of the tensor's first row, if it is some rows of another.
    """
    bad = ~(fits & torch.isfinite(tensor))
    if not bad.any():
        return None
    place = bad.nonzero()[0].tolist()
    value = tensor[tuple(place)].item()
    if place:
        place[0] += start
    return f"holds {_words(value)} at {place}; {right}"


def _words(value: float) -> str:
    return f"{value:.6g}".replace("nan", "NaN").replace("inf", "Inf")


def has_nan_code(codes: torch.Tensor) -> bool:
    """Return whether there is a NaN among FP8 codes; other codes have none."""
    if codes.dtype != torch.float8_e4m3fn:
        return False
    chunks = torch.split(codes.contiguous().view(-1).view(torch.uint8), _CHUNK)
    return any(part.view(read_as).max() == code for part in chunks if part.numel() for read_as, code in _NAN_CODES)
