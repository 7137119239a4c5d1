"""What a number format of weights has to know: from a float weight to a file, to memory while it runs, and back.

A format is one subclass in one file, listed in `quant.formats.table`. It holds no tensors: those come from the layer
and go back to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Required, TypedDict, Unpack

import torch

from quant.formats import checks
from quant.formats.eight_bit import storage_dtype
from quant.formats.grid import Grid, grid_of, scale_dtype
from quant.formats.scheme import BLOCK, GROUP_SIZES, Scheme, TensorFormat
from quant.kernels.cpu import encode_rows

ROW_MAJOR = "row_major"
Tensors = dict[str, torch.Tensor]


class TensorSpec(NamedTuple):
    """A tensor of a checkpoint before it exists: dtype, None for that of everything not packed, and shape."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]


class Ending(TypedDict, total=False):
    """What follows a matmul, as `quant.kernels.ops` takes it."""

    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    gate: torch.Tensor | None
    out_dtype: Required[torch.dtype]
    out_scale: torch.Tensor | None


class Windows(TypedDict):
    """How a convolution goes over its input and what follows, as `quant.kernels.ops.scaled_conv` takes it."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    bias: torch.Tensor | None
    out_dtype: torch.dtype


class WeightFormat(ABC):
    """How the weight [N, K] of a layer of one scheme lies in a checkpoint, how while it runs, and which op reads it.

    Attributes:
        scheme: formats of weight and input.
        op: the op of `quant.kernels.ops` that multiplies by it.
        main: name of the tensor of a checkpoint that holds the codes.
        stored_order: name of the order in which a checkpoint has its tensors.
        plain_order: name of the order that its op reads on every device.
        packing: how the compiled loop lays codes out as `main`, as `quant.kernels.cpu.encode_rows` names it; None
            where it does not.
    """

    op: ClassVar[str]
    main: ClassVar[str] = "weight"
    stored_order: ClassVar[str] = ROW_MAJOR
    plain_order: ClassVar[str] = ROW_MAJOR
    packing: ClassVar[int | None] = None

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme

    # Which weights are in this format.

    @classmethod
    @abstractmethod
    def takes(cls, scheme: Scheme, sparse: bool) -> bool:
        """Return whether a weight of this scheme, which may be 2:4 sparse, is in this format."""

    @classmethod
    def is_about(cls, weights: TensorFormat, inputs: TensorFormat | None) -> bool:
        """Return whether `refuses` is to be asked about a scheme that a recipe or a checkpoint spells out."""
        return False

    @classmethod
    def refuses(cls, weights: TensorFormat, inputs: TensorFormat | None) -> str | None:
        """Return why no op runs such a scheme, beginning with the key at fault; None where one does."""
        return None

    def misfit(self, n: int, k: int) -> str | None:
        """Return why a weight [n, k] cannot be stored so, with what would fit; None where it can."""
        group = None if self.scheme.weights is None else self.scheme.weights.group_size
        if group is None or k % group == 0:
            return None
        fitting = [str(size) for size in GROUP_SIZES if k % size == 0]
        instead = f"group_size {' or '.join(fitting)}" if fitting else "strategy 'channel'"
        return f"groups of {group} do not fit in_features {k}; {instead} would"

    # In a checkpoint.

    @property
    @abstractmethod
    def file_formats(self) -> tuple[str, ...]:
        """Names that compressed-tensors has for this layout in a file: the one that is written, then others read."""

    @abstractmethod
    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        """Return the tensors of a weight [n, k] in a checkpoint, known before any weight is read; `main` first."""

    def grid(self, weight: torch.Tensor) -> Grid | None:
        """Return the scales that a float weight [N, K] asks for by its own range; None for one that has none."""
        return None if self.scheme.weights is None else grid_of(weight, self.scheme.weights)

    @abstractmethod
    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        """Return all tensors of a weight [n, k] but `main`, of its `grid`."""

    @abstractmethod
    def codes(self, weight: torch.Tensor, scales: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the tensor `main` of a float weight [N, K] whose other tensors are `scales`.

        Raises:
            ValueError: a weight that the format cannot hold; names the first place.
        """

    def encoding(self) -> encode_rows.Encoding | None:
        """Return how the compiled loop does what `grid`, `scales` and `codes` do to a weight; None if it cannot."""
        weights = self.scheme.weights
        if self.packing is None or weights is None:
            return None
        by_dtype = {torch.int8: encode_rows.INT8, torch.float8_e4m3fn: encode_rows.E4M3}
        return encode_rows.Encoding(
            by_dtype[storage_dtype(weights)] if weights.num_bits == 8 else encode_rows.INT4,
            self.packing,
            part=BLOCK[1] if self.by_block else weights.group_size,
            part_rows=BLOCK[0] if self.by_block else 1,
            symmetric=weights.symmetric,
            narrow=scale_dtype(weights) == torch.bfloat16,
        )

    @abstractmethod
    def decode(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the float32 weight [N, K] that the tensors of a checkpoint mean."""

    def size(
        self, layer: str, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], torch.Tensor]
    ) -> tuple[int, ...]:
        """Return the shape of a layer's weight whose tensors have these shapes; `read` gives a small one of them.

        Raises:
            ValueError: the tensors say different things; names them, with the layer's name.
        """
        return shapes[self.main]

    def unfit(self, leaf: str, tensor: torch.Tensor, n: int, k: int) -> str | None:
        """Return why the memory of a weight [n, k] while it runs cannot hold such a tensor; None where it can."""
        return None

    def fault(self, leaf: str, tensor: torch.Tensor, n: int, k: int) -> str | None:
        """Return what is wrong with the values of one tensor of a weight [n, k]; None where nothing is.

        Args:
            leaf: its name, such as "weight_scale".
            tensor: of the dtype and shape of `layout`.
            n, k: of the weight.
        """
        weights = self.scheme.weights
        if leaf == "weight_scale" and weights is not None:
            return checks.no_scale(tensor, weights)
        if leaf == self.main and weights is not None and checks.has_nan_code(tensor):
            return "holds NaN: 0x7f and 0xff are no codes of a weight"
        return self.unfit(leaf, tensor, n, k) or checks.not_finite(tensor)

    # While the layer runs. An order is a name; `running` and `stored` are exact inverses of one another.

    @abstractmethod
    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        """Return the order that the best op reads on a device, of a weight whose tensors are in whichever order."""

    @abstractmethod
    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        """Return a checkpoint's tensors of a weight in an order that is not `stored_order`."""

    @abstractmethod
    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        """Return the tensors of a checkpoint of a weight that is in `order`."""

    @abstractmethod
    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        """Return a [..., K] @ weight.T, scaled, with the ending: [..., N].

        Args:
            tensors: of the layer, in `order`; more may be among them.
            order: never `stored_order` where that is not `plain_order`.
            a: codes, or floats where the scheme leaves inputs as they are.
            a_scale: float32 scales of codes; None for floats.
            n: rows of the weight.
            ending: what follows the matmul.
        """

    @abstractmethod
    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        """Return the convolution of a [B, *S, C], scaled, plus bias: [B, *out, N].

        Args:
            tensors, order, n: as of `multiply`, of a weight with all channels of the first tap of a window first.
            a: codes, or floats where the scheme leaves inputs as they are.
            a_scale: float32 [B, 1] or [1, 1] of codes; None for floats.
            over: the windows over the input, and what follows.
        """

    # What choices and predictions of speed need to know.

    @property
    def numbers(self) -> str:
        """What is unpacked on its way to the matmul, such as "int4 x" or "sparse"; empty where nothing is."""
        return ""

    @property
    def group(self) -> int:
        """Columns that share a scale as the op counts them; 0 where a row has one scale, or blocks have."""
        return 0

    @property
    def by_block(self) -> bool:
        """True where a scale is shared by blocks of rows and columns."""
        return self._strategy == "block"

    @abstractmethod
    def nbytes(self, n: int, k: int) -> int:
        """Return the bytes that the op reads of a weight [n, k], scales and zero points included."""

    # Several weights [N_i, K] of one format as one that has all their rows.

    def seam(self, n: int) -> str | None:
        """Return why no other rows can follow those of a weight with n rows; None where they can."""
        if not self.by_block or n % BLOCK[0] == 0:
            return None
        return f"has {n} rows, which end within a block of {BLOCK[0]}"

    def join_rows(self, leaf: str, tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> torch.Tensor:
        """Return one tensor of a checkpoint for all weights; one scale each becomes one a row."""
        if leaf == "weight_scale" and self._strategy == "tensor":
            return torch.cat([scale.expand(n, 1) for scale, n in zip(tensors, sizes, strict=True)])
        if tensors[0].itemsize == 1:  # as bytes: torch joins FP8 tensors on some devices only
            return torch.cat([tensor.view(torch.uint8) for tensor in tensors]).view(tensors[0].dtype)
        return torch.cat(list(tensors))

    def take_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int) -> torch.Tensor:
        """Return the tensor of weight `index` of those that `join_rows` made: a view where its rows lie so."""
        start, n = sum(sizes[:index]), sizes[index]
        if leaf == "weight_scale" and self._strategy == "tensor":
            return whole[start].clone()
        return whole[self._rows(leaf, start, n)]

    def put_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int, value: torch.Tensor) -> None:
        """Write the tensor of weight `index`, of the shape that `take_rows` returns, into that of all."""
        whole[self._rows(leaf, sum(sizes[:index]), sizes[index])].copy_(value)

    @property
    def _strategy(self) -> str | None:
        return None if self.scheme.weights is None else self.scheme.weights.strategy

    def _rows(self, leaf: str, start: int, n: int) -> slice:
        """Return where rows start to start + n are, of a tensor that has some for each."""
        size = BLOCK[0] if leaf == "weight_scale" and self.by_block else 1
        return slice(start // size, -(-(start + n) // size))
