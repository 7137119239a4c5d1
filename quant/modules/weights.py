"""How a layer's weight is kept while it runs, for each kind: from the tensors of a checkpoint to those that an op
reads, and exactly back.

Once at load, and as the only copy. A kind holds no tensors: they come from the layer and go back to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from quant.form import LayerForm
from quant.kernels import ops, prepacking
from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.layouts import aligned_rows, int4_fragments, mma_sparse24, nibbles, sparse24, wgmma_sparse24
from quant.kernels.reference import dequantized
from quant.packing.eight_bit import storage_dtype
from quant.packing.grid import Grid
from quant.packing.packed import pack, unpack
from quant.scheme import Scheme

ROW_MAJOR = "row_major"
PACKED = "packed"
Tensors = dict[str, torch.Tensor]


class Weight(ABC):
    """One kind of weight.

    Attributes:
        leaves: the tensors of a checkpoint that `ready` takes; all others of a layer stay as they are.
        as_stored: name of their order.
        plain: name of the order that ops read everywhere.
    """

    leaves: ClassVar[tuple[str, ...]] = ("weight",)
    as_stored: ClassVar[str] = ROW_MAJOR
    plain: ClassVar[str] = ROW_MAJOR

    @abstractmethod
    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        """Name of the order that a layer's tensors are in."""

    @abstractmethod
    def wanted(self, tensors: Mapping[str, torch.Tensor | None], n: int, k: int) -> str:
        """Name of the order that the best op reads where a layer's tensors are."""

    @abstractmethod
    def ready(self, stored: Tensors, layout: str, k: int) -> Tensors:
        """The tensors in an order that is wanted, of those of a checkpoint; k columns."""

    @abstractmethod
    def stored(self, ready: Tensors, n: int, k: int) -> Tensors:
        """The inverse of `ready`, of n rows."""

    @abstractmethod
    def dense(self, scheme: Scheme, ready: Mapping[str, torch.Tensor], n: int, k: int) -> torch.Tensor:
        """The float32 weight [n, k] that the tensors of a running layer of this scheme mean."""

    @abstractmethod
    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        """a @ weight.T with all scales and the epilogue, for a layer that has the tensors of `ready`."""


class EightBit(Weight):
    """Dense INT8 or FP8 codes; on a GPU in rows of whole 16 bytes, which most are as they come."""

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        weight = tensors["weight"]
        assert weight is not None
        return ROW_MAJOR if weight.shape[1] == k else aligned_rows.NAME

    def wanted(self, tensors: Mapping[str, torch.Tensor | None], n: int, k: int) -> str:
        return aligned_rows.NAME if _device(tensors).type == "cuda" else ROW_MAJOR

    def ready(self, stored: Tensors, layout: str, k: int) -> Tensors:
        return {"weight": aligned_rows.pack(stored["weight"])} if layout == aligned_rows.NAME else stored

    def stored(self, ready: Tensors, n: int, k: int) -> Tensors:
        return {"weight": aligned_rows.unpack(ready["weight"], k)}

    def dense(self, scheme: Scheme, ready: Mapping[str, torch.Tensor], n: int, k: int) -> torch.Tensor:
        return _values(scheme, ready["weight"][:, :k], ready)

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        assert a_scale is not None
        codes = aligned_rows.pack(a) if layer.layout == aligned_rows.NAME else a
        blocks = layer.scheme.weights.strategy == "block"
        scale = layer.weight_scale if blocks else layer.weight_scale.reshape(-1, 1)
        return ops.scaled_mm(codes, a_scale, layer.weight, scale, **epilogue)


class FourBit(Weight):
    """Nibbles with scales by group and zero points one a byte: as a checkpoint packs them, or in the order of lanes.

    The order is in the name of the codes' tensor, as two orders are alike in shape.
    """

    leaves = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")
    as_stored = PACKED
    plain = nibbles.NAME

    def __init__(self, scheme: Scheme) -> None:
        weights, inputs = scheme.weights, scheme.input_activations
        self._group = 0 if weights is None else weights.group_size or 0
        #: Of the input; one that is not quantized is of 16 bits, whichever of the two.
        self._dtype = torch.bfloat16 if inputs is None else storage_dtype(inputs)

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        if tensors.get("weight_shape") is not None:
            return PACKED
        return next((each for each in int4_fragments.NAMES if tensors.get(_codes(each)) is not None), nibbles.NAME)

    def wanted(self, tensors: Mapping[str, torch.Tensor | None], n: int, k: int) -> str:
        return prepacking.wanted("int4_mm", self._dtype, n, k, _device(tensors), self._group)

    def ready(self, stored: Tensors, layout: str, k: int) -> Tensors:
        packed, points = stored["weight_packed"], stored.get("weight_zero_point")
        n = len(packed)
        zero = None if points is None else nibbles.unpack_rows(points, n)
        weight = prepacking.packed(Int4Weight(packed, stored["weight_scale"], zero, n), layout, k)
        found = {_codes(layout): weight.packed, "weight_scale": weight.scale}
        return found if weight.zero is None else {**found, "zero_point": weight.zero}

    def stored(self, ready: Tensors, n: int, k: int) -> Tensors:
        layout = self.layout(ready, k)
        there = Int4Weight(ready[_codes(layout)], ready["weight_scale"], ready.get("zero_point"), n, layout)
        weight = prepacking.plain(there, k)
        found = {
            "weight_packed": weight.packed,
            "weight_scale": weight.scale,
            "weight_shape": _shape(weight.packed, k),
        }
        return found if weight.zero is None else {**found, "weight_zero_point": nibbles.pack_rows(weight.zero)}

    def dense(self, scheme: Scheme, ready: Mapping[str, torch.Tensor], n: int, k: int) -> torch.Tensor:
        layout = self.layout(ready, k)
        there = Int4Weight(ready[_codes(layout)], ready["weight_scale"], ready.get("zero_point"), n, layout)
        weight = prepacking.plain(there, k)
        return dequantized(nibbles.unpack(weight.packed, k), weight.scale, weight.zero, torch.float32)

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        layout = layer.layout
        return ops.int4_mm(
            a,
            layer._buffers[_codes(layout)],
            layer.weight_scale,
            layer._buffers.get("zero_point"),
            a_scale=a_scale,
            layout=layout,
            n=layer.out_features,
            **epilogue,
        )


class EightBitWeightOnly(Weight):
    """INT8 codes for an input that is not quantized, unpacked from the int32 of a checkpoint."""

    leaves = ("weight_packed", "weight_shape")
    as_stored = PACKED

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        return PACKED if tensors.get("weight_packed") is not None else ROW_MAJOR

    def wanted(self, tensors: Mapping[str, torch.Tensor | None], n: int, k: int) -> str:
        return ROW_MAJOR

    def ready(self, stored: Tensors, layout: str, k: int) -> Tensors:
        return {"weight": unpack(stored["weight_packed"], 8, k)}

    def stored(self, ready: Tensors, n: int, k: int) -> Tensors:
        return {"weight_packed": pack(ready["weight"], 8), "weight_shape": _shape(ready["weight"], k)}

    def dense(self, scheme: Scheme, ready: Mapping[str, torch.Tensor], n: int, k: int) -> torch.Tensor:
        return dequantized(ready["weight"], ready["weight_scale"], None, torch.float32)

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        return ops.int8_mm(a, layer.weight, layer.weight_scale, **epilogue)


class Sparse(Weight):
    """2:4: the two kept of every four columns, and which they are. Codes, or floats where the layer is only sparse."""

    plain = sparse24.NAME

    def layout(self, tensors: Mapping[str, torch.Tensor | None], k: int) -> str:
        meta = tensors.get("weight_meta")
        return ROW_MAJOR if meta is None else _ORDERS[meta.ndim]

    def wanted(self, tensors: Mapping[str, torch.Tensor | None], n: int, k: int) -> str:
        values = next(tensor for name in ("weight", "weight_values") if (tensor := tensors.get(name)) is not None)
        return prepacking.wanted("sparse_scaled_mm", values.dtype, n, k, values.device)

    def ready(self, stored: Tensors, layout: str, k: int) -> Tensors:
        values, meta = sparse24.compress(stored["weight"])
        weight = prepacking.packed(Sparse24Weight(values, meta, len(values)), layout, k)
        return {"weight_values": weight.values, "weight_meta": weight.meta}

    def stored(self, ready: Tensors, n: int, k: int) -> Tensors:
        there = Sparse24Weight(ready["weight_values"], ready["weight_meta"], n, self.layout(ready, k))
        weight = prepacking.plain(there, k)
        return {"weight": sparse24.decompress(weight.values, weight.meta, k)}

    def dense(self, scheme: Scheme, ready: Mapping[str, torch.Tensor], n: int, k: int) -> torch.Tensor:
        return _values(scheme, self.stored(dict(ready), n, k)["weight"], ready)

    def multiply(self, layer: Any, a: torch.Tensor, a_scale: torch.Tensor | None, **epilogue: Any) -> torch.Tensor:
        scale = None if layer.weight_scale is None else layer.weight_scale.reshape(-1, 1)
        values, meta, layout, n = layer.weight_values, layer.weight_meta, layer.layout, layer.out_features
        if values.itemsize != a.itemsize:  # floats of another width, which the other orders do not have
            values, meta, _, layout = prepacking.plain(Sparse24Weight(values, meta, n, layout), layer.in_features)
        order = {"layout": layout, "n": n}
        return ops.sparse_scaled_mm(a, a_scale, values.to(a.dtype), meta, scale, **order, **epilogue)


#: Dimensions of the metadata to the order they are in.
_ORDERS = {2: sparse24.NAME, 3: mma_sparse24.NAME, 4: wgmma_sparse24.NAME}


def weight_of(form: LayerForm) -> Weight:
    """The kind of a layer's weight."""
    if form.sparse:
        return Sparse()
    weights = form.scheme.weights
    assert weights is not None
    if not form.scheme.is_packed:
        return EightBit()
    return FourBit(form.scheme) if weights.num_bits == 4 else EightBitWeightOnly()


def _values(scheme: Scheme, codes: torch.Tensor, ready: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Codes [N, K] times their scales in float32, or floats as they are."""
    return codes.float() if scheme.weights is None else Grid(scheme.weights, ready["weight_scale"]).values(codes)


def _codes(layout: str) -> str:
    """Name of the tensor of a layer that holds nibbles in an order."""
    return "weight_packed" if layout == nibbles.NAME else f"weight_{layout}"


def _device(tensors: Mapping[str, torch.Tensor | None]) -> torch.device:
    return next(tensor.device for tensor in tensors.values() if tensor is not None)


def _shape(rows: torch.Tensor, k: int) -> torch.Tensor:
    return torch.tensor([len(rows), k], dtype=torch.int64, device=rows.device)
