"""What a kind of model files has to know: whether some files are of it, and what they hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.checkpoint.shards import TRANSFORMERS_WEIGHTS, WEIGHTS, TensorPlan
from quant.checkpoint.transformers_mark import marked
from quant.pipelines.inputs.tensors import SourceTensor


@dataclass(frozen=True)
class Files:
    """Weights that a user named, before anything is known of them.

    Attributes:
        path: the folder, or the one file.
        config: what the config.json says that the user named or that lies in the folder; None where there is none.
        config_folder: where that is.
        tensors: what the files mean, by their names there; codes have been put together with their scales.
    """

    path: Path
    config: Mapping[str, Any] | None
    config_folder: Path | None
    tensors: Mapping[str, SourceTensor]


@dataclass(frozen=True)
class Component:
    """One model that lies in files.

    Attributes:
        config: what its config.json says, without any quantization.
        model: of its class, on the meta device: names, classes and shapes.
        tensors: given the dtype of all that is not packed, the model's tensors by their names in it.
        stem: name of the files of tensors without number and extension, as the library of its class looks for them.
        transformers: is it made by a class of transformers?
    """

    config: Mapping[str, Any]
    model: nn.Module
    tensors: Callable[[torch.dtype], dict[str, TensorPlan]]
    stem: str = WEIGHTS
    transformers: bool = False

    def config_for(self, dtype: torch.dtype, quantization: Mapping[str, Any]) -> dict[str, Any]:
        """Its config as it goes with tensors of a dtype and a quantization_config."""
        if self.stem != TRANSFORMERS_WEIGHTS:
            return dict(self.config)
        made = marked(self.config, quantization)
        if not self.transformers:  # its tensors stay in the dtypes that they have
            return made
        made.pop("torch_dtype", None)  # as older releases wrote it
        return {**made, "dtype": str(dtype).removeprefix("torch.")}


class InputKind(ABC):
    """One kind of files. A kind is one subclass in one file, listed in `quant.pipelines.inputs.table`."""

    @abstractmethod
    def holds(self, files: Files) -> bool:
        """Return whether files are of this kind."""

    @abstractmethod
    def open(self, files: Files) -> Component:
        """Return what files hold.

        Raises:
            ModelError: a tensor that is missing, of another shape, or none that this kind knows.
        """
