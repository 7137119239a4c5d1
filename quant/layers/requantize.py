"""A change of a packed layer's weight: rounded again as its checkpoint's format rounds, and taken back to the bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quant.formats.tensors import LowRank, by_column, pack_linear
from quant.layers.layer import QuantLayer


@dataclass(frozen=True)
class Stored:
    """The tensors that a layer had, in their order."""

    tensors: dict[str, torch.Tensor]
    order: str

    @classmethod
    def of(cls, layer: QuantLayer) -> Stored:
        """Those of a layer, which are kept and not copied."""
        return cls({n: p.detach() for n, p in layer.named_parameters(recurse=False)}, layer.layout)

    def put_back(self, layer: QuantLayer) -> None:
        """Makes them the layer's again, on the device where it is now and its bias in the dtype that it has now."""
        device = next(iter(layer.held().values())).device
        bias = layer.bias
        layer.replace_held({n: t.to(device) for n, t in self.tensors.items() if n != "bias"}, self.order)
        if bias is not None:
            layer.place("bias", self.tensors["bias"].to(bias))


def add_to_weight(layer: QuantLayer, delta: torch.Tensor) -> float:
    """Adds to a layer's weight and rounds the sum to nearest, with scales of its own range.

    What surrounds the weight stays: smoothing, low-rank branch, scales of the input. Of a 2:4 sparse weight only what
    is not zero is added to.

    Args:
        layer: not on the meta device.
        delta: [N, K], float.

    Returns:
        ||W' - (W + delta)|| / ||delta||, of W' the new weight: the part of the change that rounding lost; 0 of none.
    """
    layer_format, held = layer.layer_format, layer.held()
    before = layer.dequantized(held)
    wanted = before + delta.to(before)
    kept = torch.where(before != 0, wanted, 0) if layer_format.sparse else wanted
    if layer_format.scheme.weights is None:  # floats, which packing takes as they are stored
        factor = held.get("pre_quant_scale")
        kept = kept if factor is None else kept / by_column(factor, kept.shape[1])
        kept = kept.to(next(iter(held.values())).dtype)
    branch = LowRank(held["low_rank_up"], held["low_rank_down"]) if layer_format.rank else None
    tensors = pack_linear(
        kept,
        layer_format,
        input_scale=held.get("input_scale"),
        bin_edges=held.get("bin_edges"),
        pre_quant_scale=held.get("pre_quant_scale"),
        low_rank=branch,
    )
    device = before.device
    layer.replace_held({name: tensor.to(device) for name, tensor in tensors.items()}, layer.weight_format.stored_order)
    size = delta.float().norm().item()
    lost = (layer.dequantized(layer.held()) - wanted).norm().item()
    return lost / size if size else 0.0
