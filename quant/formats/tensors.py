"""One Linear as the tensors of a checkpoint, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from quant.formats.eight_bit import storage_dtype
from quant.formats.grid import Grid, grid_of, scale_dtype, scale_shape
from quant.formats.layer import LayerForm
from quant.formats.packed import pack, packed_columns, unpack
from quant.formats.scheme import Scheme
from quant.kernels.layouts import nibbles, sparse24

#: Of a tensor: its dtype, None for that of everything not packed, and its shape.
TensorForm = tuple[torch.dtype | None, tuple[int, ...]]
Tensors = dict[str, torch.Tensor]
_ROWS = 1024  # of a weight that are in float64 at once


@dataclass(frozen=True)
class LowRank:
    """A branch beside a quantized weight (SVDQuant, arXiv 2411.05007): the output gets up @ (down @ x) added.

    Attributes:
        up: [N, R]; down: [R, K], for the layer's input as it comes, unsmoothed.
    """

    up: torch.Tensor
    down: torch.Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def weight_leaf(scheme: Scheme) -> str:
    """Name of the tensor that holds a layer's codes."""
    return "weight_packed" if scheme.is_packed else "weight"


def small_tensors(
    weight: torch.Tensor,
    scheme: Scheme,
    *,
    input_scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    grid: Grid | None = None,
    low_rank: LowRank | None = None,
) -> Tensors:
    """Everything a checkpoint stores of a layer but its codes and its bias.

    Args:
        weight: [N, K], float, as the layer's input reads it.
        scheme: the layer's scheme.
        input_scale: float32 [1], for a scheme with a static input.
        pre_quant_scale: float32 [K]. The input is multiplied by it when the layer runs, so the weight is
            divided by it before rounding.
        grid: scales of the divided weight that an algorithm found; by default its own range decides.
        low_rank: a branch. `weight` is then what the branch leaves.

    Raises:
        ValueError: `input_scale` missing for a static scheme or given for a dynamic one, or a K that the scheme's
            groups do not fit.
    """
    if scheme.has_static_input != (input_scale is not None):
        need = "needs" if scheme.has_static_input else "takes no"
        raise ValueError(f"scheme {scheme.name} {need} input_scale")
    tensors: Tensors = {}
    if scheme.weights is not None:
        grid = grid or grid_of(_divided(weight, pre_quant_scale), scheme.weights)
        tensors["weight_scale"] = grid.scale.to(scale_dtype(scheme.weights))
        if grid.zero_point is not None:
            tensors["weight_zero_point"] = nibbles.pack_rows(grid.zero_point)
        if scheme.is_packed:
            tensors["weight_shape"] = torch.tensor(weight.shape, dtype=torch.int64, device="cpu")
    if input_scale is not None:
        tensors["input_scale"] = input_scale.float().reshape(1)
    if pre_quant_scale is not None:
        tensors["pre_quant_scale"] = pre_quant_scale.float()
    if low_rank is not None:
        tensors["low_rank_up"], tensors["low_rank_down"] = low_rank.up, low_rank.down
    return tensors


def coded_weight(weight: torch.Tensor, form: LayerForm, small: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The tensor `weight_leaf(form.scheme)` of a weight [N, K] beside the tensors of `small_tensors`.

    Of a scheme without a weight format that is the weight itself, in its dtype.

    Raises:
        ValueError: the form is sparse and more than two of four stored values are not zero; names the first place.
    """
    scheme = form.scheme
    if scheme.weights is None:
        coded = weight
    else:
        coded = grid_in(small, scheme, weight.shape[0]).codes(_divided(weight, small.get("pre_quant_scale")))
    if form.sparse:
        # Through the form in which it runs: that checks it, and leaves no negative zeros that would not come back.
        coded = sparse24.decompress(*sparse24.compress(coded), coded.shape[1])
    return pack(coded, scheme.weights.num_bits) if scheme.weights is not None and scheme.is_packed else coded


def pack_linear(weight: torch.Tensor, form: LayerForm | Scheme, **beside: Any) -> Tensors:
    """All tensors of a layer but its bias, by their names in a checkpoint; `beside` as `small_tensors` takes it.

    A scheme alone is a dense layer's.
    """
    form = form if isinstance(form, LayerForm) else LayerForm(form)
    small = small_tensors(weight, form.scheme, **beside)
    return {weight_leaf(form.scheme): coded_weight(weight, form, small), **small}


def grid_in(tensors: Mapping[str, torch.Tensor], scheme: Scheme, n: int) -> Grid:
    """The grid that the tensors of a layer with `n` outputs describe."""
    assert scheme.weights is not None
    zeros = tensors.get("weight_zero_point")
    return Grid(
        scheme.weights, tensors["weight_scale"].float(), None if zeros is None else nibbles.unpack_rows(zeros, n)
    )


def unpack_linear(tensors: Mapping[str, torch.Tensor], scheme: Scheme) -> torch.Tensor:
    """The float32 weight [N, K] that a layer applies to its input: smoothing undone, a low-rank branch added."""
    if scheme.weights is None:
        weight = tensors["weight"].float()
    elif scheme.is_packed:
        n, k = tensors["weight_shape"].tolist()
        weight = grid_in(tensors, scheme, n).values(unpack(tensors["weight_packed"], scheme.weights.num_bits, k))
    else:
        weight = grid_in(tensors, scheme, len(tensors["weight"])).values(tensors["weight"])
    if "pre_quant_scale" in tensors:
        weight = weight * tensors["pre_quant_scale"]
    if "low_rank_up" in tensors:
        weight = weight + tensors["low_rank_up"].float() @ tensors["low_rank_down"].float()
    return weight


def tensor_layout(form: LayerForm, n: int, k: int) -> dict[str, TensorForm]:
    """Names, dtypes and shapes of what `pack_linear` returns of a weight [n, k], known before any weight is read."""
    scheme, weights = form.scheme, form.scheme.weights
    layout: dict[str, TensorForm] = {"weight": (None, (n, k))}
    if weights is not None:
        packed = (torch.int32, (n, packed_columns(weights.num_bits, k)))
        layout = {weight_leaf(scheme): packed if scheme.is_packed else (storage_dtype(weights), (n, k))}
        layout["weight_scale"] = (scale_dtype(weights), scale_shape(weights, n, k))
        if not weights.symmetric:
            layout["weight_zero_point"] = (torch.int32, (-(-n // 8), scale_shape(weights, n, k)[1]))
        if scheme.is_packed:
            layout["weight_shape"] = (torch.int64, (2,))
    if scheme.has_static_input:
        layout["input_scale"] = (torch.float32, (1,))
    if form.smoothed:
        layout["pre_quant_scale"] = (torch.float32, (k,))
    if form.rank:
        layout["low_rank_up"], layout["low_rank_down"] = (None, (n, form.rank)), (None, (form.rank, k))
    return layout


def reads_as(wanted: torch.dtype | None, found: torch.dtype) -> bool:
    """Can a tensor stored as `found` be read where `tensor_layout` wants `wanted`?

    Scales in float32 may be stored in 16 bits, as llm-compressor does: widening is exact. None is any floating dtype.
    """
    if wanted is None:
        return found in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    return found == wanted or (wanted == torch.float32 and found in (torch.bfloat16, torch.float16))


def relative_error(weight: torch.Tensor, tensors: Mapping[str, torch.Tensor], scheme: Scheme) -> float:
    """||W - W_stored|| / ||W|| in the Frobenius norm, in float64 and in units of the largest weight.

    0 for an all-zero weight, 1 where nothing of a weight was left; no size of the weights overflows or vanishes.
    """
    sizes = (float(rows.double().abs().max()) for rows in torch.split(weight, _ROWS) if rows.numel())
    largest = max(sizes, default=0.0)
    if largest == 0:
        return 0.0
    lost = power = 0.0
    parts = (torch.split(weight, _ROWS), torch.split(unpack_linear(tensors, scheme), _ROWS))
    for rows, stored in zip(*parts, strict=True):
        exact = rows.double() / largest
        lost += float((stored.double() / largest - exact).square().sum())
        power += float(exact.square().sum())
    return math.sqrt(lost / power)


def _divided(weight: torch.Tensor, pre_quant_scale: torch.Tensor | None) -> torch.Tensor:
    return weight.float() if pre_quant_scale is None else weight.float() / pre_quant_scale
