"""What an export has to know: whose readers read it, and how its config.json says what each layer is stored as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from quant.formats.layer import LayerFormat


class Export(ABC):
    """A `quant_method`, and the `quantization_config` that goes with it.

    An export is one subclass in one file, listed in `quant.checkpoint.exports.table`.

    Attributes:
        name: the `quant_method`, by which other libraries find who reads a checkpoint.
        versioned: must its config name the version of this library's format? False where others write it too.
    """

    name: ClassVar[str]
    versioned: ClassVar[bool] = True

    @abstractmethod
    def takes(self, layers: Mapping[str, LayerFormat], *, standard: bool) -> bool:
        """Return whether every reader of that name reads the weights of these layers as this library does.

        Args:
            layers: quantized layers by name.
            standard: are all of them of a kind that other readers take them for?
        """

    @abstractmethod
    def config(self, layers: Mapping[str, LayerFormat], kept: Iterable[str]) -> dict[str, Any]:
        """Return what the quantization_config of a component says of its layers.

        Args:
            layers: quantized layers by name.
            kept: names of the Linears that are not quantized.
        """

    @abstractmethod
    def layers(self, config: Mapping[str, Any], linears: Iterable[str], where: str) -> dict[str, LayerFormat]:
        """Return what `config` was given: which of a model's layers are stored quantized, and how.

        Args:
            config: a quantization_config with this name and a version that is read.
            linears: names of all Linears of the model; convolutions are those that the config names.
            where: the file, for errors.

        Raises:
            CheckpointError: a config that says what this release does not run, or of another model.
        """

    @abstractmethod
    def kept(self, config: Mapping[str, Any], where: str) -> list[str]:
        """Return patterns of the layers that a config says are not quantized. Raises CheckpointError."""

    @abstractmethod
    def sparse(self, config: Mapping[str, Any], where: str) -> list[str]:
        """Return names of the layers that a config says are 2:4 sparse. Raises CheckpointError."""
