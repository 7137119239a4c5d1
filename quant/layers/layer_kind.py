"""What a class of layers has to know so that its weights can be quantized: how each layer is a matmul."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.layers.layer import QuantLayer
from quant.layers.linear import QuantLinear


@dataclass(frozen=True)
class Seen:
    """One input of a layer, for statistics.

    Attributes:
        inputs: [R, C], all of its values by channel.
        draw: makes rows [., K] that the weight is multiplied by, as many as it is given or all, drawn evenly with a
            generator; None where `inputs` are they.
    """

    inputs: torch.Tensor
    draw: Callable[[int, torch.Generator], torch.Tensor] | None = None


class LayerKind(ABC):
    """Modules whose weight is a matrix [N, K] that rows of their input, or of its windows, are multiplied by.

    A kind is one subclass in one file, listed in `quant.layers.kinds`.

    Attributes:
        classes: names of the classes that a recipe's targets may name, and that a model need not have any of.
        in_groups: are they the layers that the groups of a checkpoint's config are about? Convolutions have an entry of
            their own there.
        standard: is a checkpoint of such layers what every reader of compressed-tensors takes it for?
        by_rows: is row i of the matrix made of entry i of the weight's first dimension, so that some rows of a weight
            are enough for some rows of the matrix?
    """

    classes: ClassVar[tuple[str, ...]] = ()
    in_groups: ClassVar[bool] = True
    standard: ClassVar[bool] = False
    by_rows: ClassVar[bool] = False

    @abstractmethod
    def holds(self, module: nn.Module) -> bool:
        """Return whether a module is of this kind."""

    @abstractmethod
    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return N and K of a weight that has this shape in the model."""

    @abstractmethod
    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight as the model has it as [N, K]; a view where that can be."""

    def rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        """Return the rows [R, K] that are multiplied when a module is called so; of a kind without its own `watch`."""
        raise NotImplementedError

    def watch(self, module: nn.Module, see: Callable[[Seen], None]) -> Callable[[], None]:
        """Have `see` called with every input of a module, before it is multiplied. Returns what ends that."""
        return module.register_forward_pre_hook(
            lambda _, args, kwargs: see(Seen(self.rows(args, kwargs))), with_kwargs=True
        ).remove

    def kernel_size(self, module: nn.Module) -> tuple[int, ...]:
        """Return the size of a convolution's window; () for what is none, or is one that cannot be quantized."""
        return ()

    @abstractmethod
    def own_way(self, model: nn.Module, name: str, module: nn.Module, readers: Mapping[int, str]) -> str:
        """Return why a layer stays as it is, since a quantized one would not do all that it does; empty where it would.

        Args:
            model: whose layer `name` it is.
            name, module: the layer.
            readers: of `quant.layers.kinds.weight_readers`.
        """

    def weight(self, module: nn.Module) -> torch.Tensor:
        """Return the weight of a layer as the model has it."""
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        return weight

    def empty(self, module: nn.Module, layer_format: LayerFormat) -> QuantLayer:
        """Return a quantized layer without values, on the meta device, to take the place of `module`."""
        weight = self.weight(module)
        n, k = self.size(tuple(weight.shape))
        made = QuantLinear(k, n, layer_format, bias=bias_of(module) is not None, dtype=weight.dtype, device="meta")
        return made.train(module.training)

    def filled(
        self, module: nn.Module, layer_format: LayerFormat, tensors: Mapping[str, torch.Tensor], device: torch.device
    ) -> QuantLayer:
        """Return a quantized layer with the tensors of a checkpoint and a copy of the module's bias.

        Args:
            module: whose place it takes.
            layer_format: of the layer.
            tensors: of `quant.formats.tensors.pack_linear`.
            device: where the layer is to run.
        """
        return self.empty(module, layer_format).fill(tensors, bias_of(module), device)


def bias_of(module: nn.Module) -> torch.Tensor | None:
    """The bias of a layer; None where it has none."""
    bias = module.bias
    assert not isinstance(bias, nn.Module)
    return bias
