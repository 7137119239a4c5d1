"""One quantized layer as the tensors of a checkpoint, and back: its weight's, and what stands around the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from quant.formats import checks
from quant.formats.base import Tensors, TensorSpec
from quant.formats.grid import Grid
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of

_ROWS = 1024  # of a weight that are in float64 at once


@dataclass(frozen=True)
class LowRank:
    """A branch next to a quantized weight (SVDQuant, arXiv 2411.05007): the output gets up @ (down @ x) added.

    Attributes:
        up: [N, R]; down: [R, K], for the layer's input as it comes, unsmoothed.
    """

    up: torch.Tensor
    down: torch.Tensor

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def tensor_layout(layer_format: LayerFormat, n: int, k: int) -> dict[str, TensorSpec]:
    """Names, dtypes and shapes of what `pack_linear` returns of a weight [n, k], known before any weight is read."""
    layout = format_of(layer_format).layout(n, k)
    if layer_format.scheme.has_static_input:
        bins = layer_format.bins
        layout["input_scale"] = TensorSpec(torch.float32, (bins, 1) if bins > 1 else (1,))
        if bins > 1:
            layout["bin_edges"] = TensorSpec(torch.float32, (bins - 1,))
    if layer_format.smoothed:
        layout["pre_quant_scale"] = TensorSpec(torch.float32, (k // layer_format.taps,))
    if layer_format.rank:
        layout["low_rank_up"] = TensorSpec(None, (n, layer_format.rank))
        layout["low_rank_down"] = TensorSpec(None, (layer_format.rank, k))
    return layout


def small_tensors(
    weight: torch.Tensor,
    layer_format: LayerFormat,
    *,
    input_scale: torch.Tensor | None = None,
    bin_edges: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    grid: Grid | None = None,
    low_rank: LowRank | None = None,
) -> Tensors:
    """Everything a checkpoint stores of a layer but its codes and its bias.

    Args:
        weight: [N, K], float, as the layer's input reads it.
        layer_format: the layer's.
        input_scale: float32 [1], for a scheme with a static input; [B, 1] where it has bins.
        bin_edges: float32 [B-1], the timesteps between bins, each above the one before.
        pre_quant_scale: float32 [K], or one a channel of a convolution's input. The input is multiplied by it when the
            layer runs, so the weight is divided by it before rounding.
        grid: scales of the divided weight that an algorithm found; by default its own range decides.
        low_rank: a branch. `weight` is then what the branch leaves.

    Raises:
        ValueError: `input_scale` missing for a static scheme or given for a dynamic one, or a K that the scheme's
            groups do not fit. Edges that do not go with the layer's bins.
    """
    if layer_format.scheme.has_static_input != (input_scale is not None):
        need = "needs" if layer_format.scheme.has_static_input else "takes no"
        raise ValueError(f"scheme {layer_format.scheme.name} {need} input_scale")
    edges = 0 if bin_edges is None else len(bin_edges)
    if edges != layer_format.bins - 1 or (input_scale is not None and input_scale.numel() != layer_format.bins):
        raise ValueError(f"{layer_format.bins} bins have as many scales and {layer_format.bins - 1} edges, got {edges}")
    kind = format_of(layer_format)
    tensors = kind.scales(grid or own_grid(weight, layer_format, pre_quant_scale), *weight.shape)
    if input_scale is not None:
        tensors["input_scale"] = input_scale.float().reshape(1 if bin_edges is None else (-1, 1))
    if bin_edges is not None:
        tensors["bin_edges"] = bin_edges.float()
    if pre_quant_scale is not None:
        tensors["pre_quant_scale"] = pre_quant_scale.float()
    if low_rank is not None:
        tensors["low_rank_up"], tensors["low_rank_down"] = low_rank.up, low_rank.down
    return tensors


def own_grid(weight: torch.Tensor, layer_format: LayerFormat, pre_quant_scale: torch.Tensor | None) -> Grid | None:
    """The scales that a weight [N, K] as its input reads it asks for; None of a scheme without a weight format."""
    return format_of(layer_format).grid(_divided(weight, pre_quant_scale))


def coded_weight(weight: torch.Tensor, layer_format: LayerFormat, small: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The codes of a weight [N, K] to go with the tensors of `small_tensors`: that which its format calls `main`.

    Of a scheme without a weight format that is the weight itself, in its dtype.

    Raises:
        ValueError: the layer is sparse and more than two of four stored values are not zero; names the first place.
    """
    exact = weight if layer_format.scheme.weights is None else _divided(weight, small.get("pre_quant_scale"))
    return format_of(layer_format).codes(exact, small)


def pack_linear(
    weight: torch.Tensor,
    layer_format: LayerFormat,
    *,
    input_scale: torch.Tensor | None = None,
    bin_edges: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    grid: Grid | None = None,
    low_rank: LowRank | None = None,
) -> Tensors:
    """All tensors of a layer but its bias, by their names in a checkpoint. Arguments and errors as `small_tensors`."""
    small = small_tensors(
        weight, layer_format, input_scale=input_scale, bin_edges=bin_edges, pre_quant_scale=pre_quant_scale, grid=grid,
        low_rank=low_rank,
    )  # fmt: skip
    return {format_of(layer_format).main: coded_weight(weight, layer_format, small), **small}


def unpack_linear(tensors: Mapping[str, torch.Tensor], layer_format: LayerFormat) -> torch.Tensor:
    """The float32 weight [N, K] that a layer applies to its input: smoothing undone, a low-rank branch added."""
    weight = format_of(layer_format).decode(tensors)
    if "pre_quant_scale" in tensors:
        weight = weight * by_column(tensors["pre_quant_scale"], weight.shape[1])
    if "low_rank_up" in tensors:
        weight = weight + tensors["low_rank_up"].float() @ tensors["low_rank_down"].float()
    return weight


def fault(leaf: str, tensor: torch.Tensor, layer_format: LayerFormat, n: int, k: int) -> str | None:
    """What is wrong with the values of one tensor of a layer, and what would be right; None where nothing is.

    Args:
        leaf: its name within the layer, such as "weight_scale". One that the format does not speak of, such as "bias",
            has to be finite.
        tensor: of the dtype and shape that `tensor_layout` gives it; any device.
        layer_format, n, k: of the layer, whose weight is [n, k].
    """
    kind, inputs = format_of(layer_format), layer_format.scheme.input_activations
    if leaf in kind.layout(n, k):
        return kind.fault(leaf, tensor, n, k)
    if leaf == "input_scale" and inputs is not None:
        return checks.no_scale(tensor, inputs)
    if leaf == "bin_edges":
        return checks.not_finite(tensor) or checks.not_rising(tensor)
    if leaf == "pre_quant_scale":
        return checks.outside(tensor, tensor > 0, "a smoothing factor is finite and above 0")
    return checks.not_finite(tensor)


def reads_as(wanted: torch.dtype | None, found: torch.dtype) -> bool:
    """Can a tensor stored as `found` be read where `tensor_layout` wants `wanted`?

    Scales in float32 may be stored in 16 bits, as llm-compressor does: widening is exact. None is any floating dtype.
    """
    if wanted is None:
        return found in (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    return found == wanted or (wanted == torch.float32 and found in (torch.bfloat16, torch.float16))


class RelativeError:
    """||W - W_stored|| / ||W|| in the Frobenius norm, from some rows of a weight at a time, in float64.

    In units of the largest weight seen, as LAPACK's dlassq does it: no size of the weights overflows or vanishes.
    """

    def __init__(self) -> None:
        self._largest = self._lost = self._power = 0.0

    def add(self, rows: torch.Tensor, stored: torch.Tensor) -> None:
        """Counts rows [R, K] of the weight, and what is stored of them."""
        exact = rows.double()
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        if largest > self._largest:
            shrink = (self._largest / largest) ** 2
            self._lost, self._power, self._largest = self._lost * shrink, self._power * shrink, largest
        if self._largest:
            exact = exact / self._largest
            self.add_squares(
                float((stored.double() / self._largest - exact).square().sum()), float(exact.square().sum())
            )

    def add_squares(self, lost: float, power: float) -> None:
        """Counts rows of which the sums of squares are known, of what is lost and of the weight, in one unit."""
        self._lost += lost
        self._power += power

    @property
    def value(self) -> float:
        """The error: 0 for an all-zero weight, 1 where nothing of a weight was left."""
        return math.sqrt(self._lost / self._power) if self._power else 0.0


def relative_error(weight: torch.Tensor, tensors: Mapping[str, torch.Tensor], layer_format: LayerFormat) -> float:
    """||W - W_stored|| / ||W|| of a weight [N, K] and the tensors of a checkpoint."""
    error = RelativeError()
    for rows, stored in zip(
        torch.split(weight, _ROWS), torch.split(unpack_linear(tensors, layer_format), _ROWS), strict=True
    ):
        error.add(rows, stored)
    return error.value


def by_column(factor: torch.Tensor, k: int) -> torch.Tensor:
    """Factors [K] of a weight's columns, of those [C] of the input's channels: every tap of a window has them all."""
    return factor if len(factor) == k else factor.repeat(k // len(factor))


def _divided(weight: torch.Tensor, pre_quant_scale: torch.Tensor | None) -> torch.Tensor:
    return weight.float() if pre_quant_scale is None else weight.float() / by_column(pre_quant_scale, weight.shape[1])
