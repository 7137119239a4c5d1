"""How a layer's weight is kept while it runs, for each kind: from the tensors of a checkpoint to those that an op
reads, and exactly back.

Once at load, and as the only copy. A kind has no state: tensors come from the layer and go back to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from quant.form import LayerForm
from quant.kernels import ops
from quant.kernels.layouts import aligned_rows, nibbles, sparse24
from quant.packing.packed import pack, unpack

ROW_MAJOR = "row_major"
PACKED = "packed"
Tensors = dict[str, torch.Tensor]


class Weight(ABC):
    """One kind of weight.

    Attributes:
        leaves: the tensors of a checkpoint that `ready` takes; all others of a layer stay as they are.
        as_stored: name of their order.
    """

    leaves: ClassVar[tuple[str, ...]] = ("weight",)
    as_stored: ClassVar[str] = ROW_MAJOR

    @abstractmethod
    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        """Name of the order that a layer's tensors are in."""

    @abstractmethod
    def wanted(self, device: str) -> str:
        """Name of the order that the ops of a device type read."""

    @abstractmethod
    def ready(self, stored: Tensors, device: str, k: int) -> Tensors:
        """The tensors that `multiply` reads there, of those of a checkpoint; k columns."""

    @abstractmethod
    def stored(self, ready: Tensors, k: int) -> Tensors:
        """The inverse of `ready`."""

    @abstractmethod
    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        """a @ weight.T with all scales and the epilogue, for a layer that has the tensors of `ready`."""


class EightBit(Weight):
    """Dense INT8 or FP8 codes; on a GPU in rows of whole 16 bytes, which most are as they come."""

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        weight = tensors["weight"]
        assert weight is not None
        return ROW_MAJOR if weight.shape[1] == k else aligned_rows.NAME

    def wanted(self, device: str) -> str:
        return aligned_rows.NAME if device == "cuda" else ROW_MAJOR

    def ready(self, stored: Tensors, device: str, k: int) -> Tensors:
        return {"weight": aligned_rows.pack(stored["weight"])} if device == "cuda" else stored

    def stored(self, ready: Tensors, k: int) -> Tensors:
        return {"weight": aligned_rows.unpack(ready["weight"], k)}

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        assert a_scale is not None
        codes = aligned_rows.pack(a) if layer.layout == aligned_rows.NAME else a
        blocks = layer.scheme.weights.strategy == "block"
        scale = layer.weight_scale if blocks else layer.weight_scale.reshape(-1, 1)
        return ops.scaled_mm(codes, a_scale, layer.weight, scale, **epilogue)


class FourBit(Weight):
    """Nibbles, as a checkpoint packs them; zero points one a byte."""

    leaves = ("weight_packed", "weight_zero_point", "weight_shape")
    as_stored = PACKED

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        return PACKED if tensors.get("weight_shape") is not None else "nibbles"

    def wanted(self, device: str) -> str:
        return "nibbles"

    def ready(self, stored: Tensors, device: str, k: int) -> Tensors:
        packed = stored["weight_packed"]
        found = {"weight_packed": packed}
        if "weight_zero_point" in stored:
            found["zero_point"] = nibbles.unpack_rows(stored["weight_zero_point"], len(packed))
        return found

    def stored(self, ready: Tensors, k: int) -> Tensors:
        packed = ready["weight_packed"]
        found = {"weight_packed": packed, "weight_shape": _shape(packed, k)}
        if "zero_point" in ready:
            found["weight_zero_point"] = nibbles.pack_rows(ready["zero_point"])
        return found

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        zero_point = layer._buffers.get("zero_point")
        return ops.int4_mm(a, layer.weight_packed, layer.weight_scale, zero_point, a_scale=a_scale, **epilogue)


class EightBitWeightOnly(Weight):
    """INT8 codes for an input that is not quantized, unpacked from the int32 of a checkpoint."""

    leaves = ("weight_packed", "weight_shape")
    as_stored = PACKED

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        return PACKED if tensors.get("weight_packed") is not None else ROW_MAJOR

    def wanted(self, device: str) -> str:
        return ROW_MAJOR

    def ready(self, stored: Tensors, device: str, k: int) -> Tensors:
        return {"weight": unpack(stored["weight_packed"], 8, k)}

    def stored(self, ready: Tensors, k: int) -> Tensors:
        return {"weight_packed": pack(ready["weight"], 8), "weight_shape": _shape(ready["weight"], k)}

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        return ops.int8_mm(a, layer.weight, layer.weight_scale, **epilogue)


class Sparse(Weight):
    """2:4: the two kept of every four columns, and which they are. Codes, or floats where the layer is only sparse."""

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        return ROW_MAJOR if tensors.get("weight") is not None else sparse24.NAME

    def wanted(self, device: str) -> str:
        return sparse24.NAME

    def ready(self, stored: Tensors, device: str, k: int) -> Tensors:
        values, meta = sparse24.compress(stored["weight"])
        return {"weight_values": values, "weight_meta": meta}

    def stored(self, ready: Tensors, k: int) -> Tensors:
        return {"weight": sparse24.decompress(ready["weight_values"], ready["weight_meta"], k)}

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        scale = None if layer.weight_scale is None else layer.weight_scale.reshape(-1, 1)
        values = layer.weight_values if a_scale is not None else layer.weight_values.to(a.dtype)
        return ops.sparse_scaled_mm(a, a_scale, values, layer.weight_meta, scale, **epilogue)


def weight_of(form: LayerForm) -> Weight:
    """The kind of a layer's weight."""
    if form.sparse:
        return Sparse()
    weights = form.scheme.weights
    assert weights is not None
    if not form.scheme.is_packed:
        return EightBit()
    return FourBit() if weights.num_bits == 4 else EightBitWeightOnly()


def _shape(rows: torch.Tensor, k: int) -> torch.Tensor:
    return torch.tensor([len(rows), k], dtype=torch.int64, device=rows.device)
