"""`quantize_rows`: rows as 8-bit codes, with what surrounds a layer's input before they are quantized."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from quant.kernels.arguments import Prologue
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import CODES, FLOATS, encode, scale_from_amax
from quant.kernels.ops.base import Op
from quant.kernels.ops.checks import check_broadcast, check_operands
from quant.kernels.ops.matmul import rows_of
from quant.kernels.reference import prepare

NAME = "quantize_rows"
NORMS = ("none", "layer", "rms")


class Norm(NamedTuple):
    """A norm applied before quantization.

    Attributes:
        kind: "layer" or "rms".
        weight, bias: [K] or None.
        eps: added to the variance.
    """

    kind: str
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    eps: float = 1e-6


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype,
    *,
    scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    norm: Norm | None = None,
    modulation: tuple[torch.Tensor, torch.Tensor] | None = None,
    group: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as 8-bit codes: q * scale is about x.

    Args:
        x: [..., K], 2 to 4 dimensions, float32, bfloat16 or float16, any strides.
        dtype: of the codes, int8 or float8_e4m3fn.
        scale: float32 with one element: static, the same for all rows. None finds one a row.
        pre_quant_scale: float32 [K]; x is multiplied by it.
        norm: applied to x first.
        modulation: (scale, shift), each broadcasting to x; the normed x becomes x * (1 + scale) + shift.
        group: find one scale for each so many columns of a row, the last of which may be fewer; 0 finds one a row.

    Returns:
        q like x, and its scale: float32 [..., 1], [..., K/group] rounded up, or [1, 1] where static.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    kind, weight, bias, eps = norm or ("none", None, None, 0.0)
    by, shift = modulation or (None, None)
    found: tuple[torch.Tensor, torch.Tensor] = OP(
        Arguments(x, dtype, scale, pre_quant_scale, kind, weight, bias, eps, by, shift, group)
    )
    return found


class Arguments(NamedTuple):
    """As the schema has them."""

    x: torch.Tensor
    dtype: torch.dtype
    scale: torch.Tensor | None
    pre_quant_scale: torch.Tensor | None
    norm: str
    norm_weight: torch.Tensor | None
    norm_bias: torch.Tensor | None
    eps: float
    modulation_scale: torch.Tensor | None
    modulation_shift: torch.Tensor | None
    group: int = 0


SCHEMA = (
    "(Tensor x, ScalarType dtype, Tensor? scale, Tensor? pre_quant_scale, str norm, Tensor? norm_weight, "
    "Tensor? norm_bias, float eps, Tensor? modulation_scale, Tensor? modulation_shift, int group=0) -> (Tensor, Tensor)"
)


def fake(given: Arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales without their numbers."""
    x, group = given.x, given.group
    a_row = -(-x.shape[-1] // group) if group else 1
    rows = [*x.shape[:-1], a_row] if given.scale is None else [1, 1]
    return x.new_empty(x.shape, dtype=given.dtype), x.new_empty(rows, dtype=torch.float32)


def check(given: Arguments) -> None:
    """Raises ValueError for what the op does not take."""
    x, dtype, scale, group = given.x, given.dtype, given.scale, given.group
    if not 2 <= x.ndim <= 4:
        raise ValueError(f"{NAME}: x must have 2 to 4 dimensions, got {list(x.shape)}")
    if x.dtype not in FLOATS:
        raise ValueError(f"{NAME}: x must be float32, bfloat16 or float16, got {x.dtype}")
    if dtype not in CODES:
        raise ValueError(f"{NAME}: dtype must be int8 or float8_e4m3fn, got {dtype}")
    if scale is not None and (scale.numel() != 1 or scale.dtype != torch.float32):
        raise ValueError(f"{NAME}: a static scale is one float32, got {list(scale.shape)} of {scale.dtype}")
    if group < 0 or (group and scale is not None):
        raise ValueError(f"{NAME}: group is a number of columns whose scale is found, not given, got {group}")
    if given.norm not in NORMS:
        raise ValueError(f"{NAME}: norm must be one of {', '.join(NORMS)}, got '{given.norm}'")
    check_operands(NAME, x, given._asdict())
    vectors = {"pre_quant_scale": given.pre_quant_scale, "norm_weight": given.norm_weight, "norm_bias": given.norm_bias}
    for name, vector in vectors.items():
        if vector is not None and vector.shape != x.shape[-1:]:
            raise ValueError(f"{NAME}: {name} must have the shape {list(x.shape[-1:])}, got {list(vector.shape)}")
    check_broadcast(NAME, "modulation_scale", given.modulation_scale, x.shape)
    check_broadcast(NAME, "modulation_shift", given.modulation_shift, x.shape)


def call_of(given: Arguments) -> Call:
    """What its implementation is chosen by."""
    x = given.x
    return Call(NAME, x.device.type, given.dtype, m=rows_of(x), k=x.shape[-1], group=given.group)


def run(given: Arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Implementations that find one scale a row know no groups."""
    x, group = given.x, given.group
    prologue = Prologue(
        given.pre_quant_scale,
        given.norm,
        given.norm_weight,
        given.norm_bias,
        given.eps,
        given.modulation_scale,
        given.modulation_shift,
    )
    by = {"group": group} if group else {}
    codes, used = OP.chosen(given)(x, given.dtype, given.scale, prologue, **by)
    return codes.contiguous(), used


def reference(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue, group: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The prologue in float32, then codes."""
    values = prepare(x.float(), prologue)
    if group:
        return _quantize_groups(values, dtype, group)
    if scale is None:
        used = scale_from_amax(values.abs().amax(dim=-1, keepdim=True), dtype)
    else:
        # A copy: an op's result may not share memory with its input.
        used = scale.reshape(1, 1).clone()
    return encode(values, used, dtype), used


def _quantize_groups(values: torch.Tensor, dtype: torch.dtype, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and one scale for each `group` columns of each row, the last of which may be fewer."""
    k = values.shape[-1]
    padded = F.pad(values, (0, -k % group)).reshape(*values.shape[:-1], -(-k // group), group)
    scale = scale_from_amax(padded.abs().amax(dim=-1), dtype)
    return encode(values, scale.repeat_interleave(group, dim=-1)[..., :k], dtype), scale


_PLAIN = (Implementation("reference", NAME, (Limits(),), reference),)
_PLAIN = (Implementation("reference", NAME, (Limits(),), reference),)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
