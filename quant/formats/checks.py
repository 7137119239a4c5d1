"""Whether a stored tensor can be what its place in a layer says, for files that no hash vouches for.

Tensor by tensor, so that it can be asked of a stream. Nothing here depends on who wrote the file: what decodes exactly
is right, also an INT8 code of -128, which our own writer never makes and compressed-tensors does.
"""

from __future__ import annotations

import torch

from quant.formats.grid import largest_code
from quant.formats.layer import SPARSITY, LayerForm
from quant.formats.scheme import TensorFormat
from quant.formats.tensors import weight_leaf
from quant.kernels.layouts import sparse24
from quant.kernels.numerics import SMALLEST_SCALE

_LARGEST = torch.finfo(torch.float32).max
#: Without its sign, the one e4m3 code that is no number.
_NAN_CODE = 0x7F
#: Bytes of codes looked at in one go, which stay in a core's cache.
_CHUNK = 2**20


def fault(leaf: str, tensor: torch.Tensor, form: LayerForm, n: int, k: int) -> str | None:
    """What is wrong with the values of one tensor of a layer, and what would be right; None where nothing is.

    Args:
        leaf: its name within the layer, such as "weight_scale". One that `form` does not speak of, such as "bias", has
            to be finite.
        tensor: of the dtype and shape that `quant.formats.tensors.tensor_layout` gives it; any device.
        form, n, k: of the layer, whose weight is [n, k].
    """
    weights, inputs = form.scheme.weights, form.scheme.input_activations
    if leaf == "weight_shape":
        found = tensor.tolist()
        return None if found == [n, k] else f"is {found}, the weight is {[n, k]}"
    if leaf == weight_leaf(form.scheme) and weights is not None and _has_nan(tensor):
        return "holds NaN: 0x7f and 0xff are no codes of a weight"
    if leaf == weight_leaf(form.scheme) and form.sparse:
        return _more_than_two_of_four(tensor) or not_finite(tensor)
    if leaf == "weight_scale" and weights is not None:
        return _no_scale(tensor, weights)
    if leaf == "input_scale" and inputs is not None:
        return _no_scale(tensor, inputs)
    if leaf == "pre_quant_scale":
        return _outside(tensor, tensor > 0, "a smoothing factor is finite and above 0")
    return not_finite(tensor)


def not_finite(tensor: torch.Tensor) -> str | None:
    """Where a tensor has its first NaN or Inf; None where it has none. Whole numbers and codes have none."""
    if not tensor.is_floating_point() or tensor.itemsize == 1:
        return None
    # The sum of a finite tensor can overflow, but not the other way round.
    if torch.isfinite(tensor.sum(dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)):
        return None
    return _outside(tensor, torch.ones_like(tensor, dtype=torch.bool), "weights are finite")


def _no_scale(scale: torch.Tensor, of: TensorFormat) -> str | None:
    largest = torch.tensor(_LARGEST / largest_code(of), dtype=scale.dtype, device=scale.device)
    fits = (scale >= SMALLEST_SCALE) & (scale <= largest)
    return _outside(scale, fits, f"a scale is finite, at least 2**-126 and at most {_LARGEST / largest_code(of):.3g}")


def _outside(tensor: torch.Tensor, fits: torch.Tensor, right: str) -> str | None:
    bad = ~(fits & torch.isfinite(tensor))
    if not bad.any():
        return None
    place = bad.nonzero()[0].tolist()
    return f"holds {_words(tensor[tuple(place)].item())} at {place}; {right}"


def _words(value: float) -> str:
    return f"{value:.6g}".replace("nan", "NaN").replace("inf", "Inf")


def _has_nan(codes: torch.Tensor) -> bool:
    """Is there a NaN among FP8 codes? Other codes have none."""
    if codes.dtype != torch.float8_e4m3fn:
        return False
    bits = codes.contiguous().view(torch.uint8).view(-1)
    return any(bool((part & _NAN_CODE).eq_(_NAN_CODE).any()) for part in torch.split(bits, _CHUNK))


def _more_than_two_of_four(weight: torch.Tensor) -> str | None:
    if sparse24.is_24(weight):
        return None
    try:
        sparse24.compress(weight)
    except ValueError as error:
        return f"is not {SPARSITY}: {str(error).removeprefix('sparse24: ')}"
    return f"is not {SPARSITY}"
