"""A model's weights, read from their files when they are called and dropped when they have been: one block at a time.

Weights come and go by units: a block, or the largest part outside of all blocks that holds none. A few tensors belong
to modules that have blocks in them, such as a table of the whole model's; those stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from quant.checkpoint.shards import TensorPlan


@dataclass(frozen=True)
class _Tensor:
    """One tensor of a module, which is on meta while it is not loaded."""

    module: nn.Module
    leaf: str
    empty: torch.Tensor
    plan: TensorPlan

    @property
    def _held(self) -> dict[str, Any]:
        return self.module._parameters if self.leaf in self.module._parameters else self.module._buffers

    def load(self, device: torch.device) -> None:
        tensor = self.plan.whole().to(device)
        # Some of torch's operators choose their arithmetic by this, gradients or not.
        gradient = self.empty.requires_grad
        self._held[self.leaf] = nn.Parameter(tensor, gradient) if self.leaf in self.module._parameters else tensor

    def free(self) -> None:
        self._held[self.leaf] = self.empty


class StreamedWeights:
    """The weights of a model on meta; a context manager, behind which they are on meta again.

    Calls' own tensors are at `home`. Where that is another device than the weights', each unit fetches what it is
    called with and gives back what it returns, and what a class's code does between its modules is done at home.

    Attributes:
        held: bytes of the units that are loaded.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[str],
        tensors: Mapping[str, TensorPlan],
        device: torch.device,
        home: torch.device,
    ) -> None:
        """Reads nothing yet.

        Args:
            model: of `quant.pipelines.runnable`; its empty tensors get the dtypes that full ones will have.
            blocks: names of its blocks.
            tensors: by their names in the model.
            device: where weights are loaded to, and blocks run.
            home: where a call's tensors are between units.
        """
        self.held = 0
        self._model, self._device, self._home = model, device, home
        self._loaded: set[str] = set()
        self._units: dict[str | None, list[_Tensor]] = {}
        self._of_module: dict[str, str | None] = {}
        self._hooks = ExitStack()
        self._inside = 0
        above = {name[:end] for name in blocks for end in (0, *(i for i, c in enumerate(name) if c == "."))}
        for name, module in model.named_modules():
            self._of_module[name] = unit = _unit(name, frozenset(blocks), above)
            made = self._units.setdefault(unit, [])
            for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None:
                    continue
                if leaf in module._non_persistent_buffers_set:
                    module._buffers[leaf] = tensor.to(home if unit is None else device)
                    continue
                plan = tensors[f"{name}.{leaf}" if name else leaf]
                empty = torch.empty(plan.shape, dtype=plan.dtype, device="meta")
                if leaf in module._parameters:
                    empty = nn.Parameter(empty, tensor.requires_grad)
                made.append(_Tensor(module, leaf, empty, plan))
                made[-1].free()

    def __enter__(self) -> Self:
        for tensor in self._units.get(None, ()):
            tensor.load(self._home)
        for name, module in self._model.named_modules():
            unit = self._of_module[name]
            if unit is not None and self._has_tensors(unit):
                self._hooks.callback(module.register_forward_pre_hook(self._needs(unit)).remove)
                if self._home != self._device:
                    self._hooks.callback(module.register_forward_pre_hook(self._fetch, with_kwargs=True).remove)
                    self._hooks.callback(module.register_forward_hook(self._give_back).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()
        self.free()
        for tensor in self._units.get(None, ()):
            tensor.free()

    def load(self, name: str) -> None:
        """Loads the unit that a layer is in, if it is not loaded.

        Raises:
            ModelError: a tensor of it is not finite, or its file cannot be read.
        """
        unit = self._of_module[name]
        if unit is None or unit in self._loaded:
            return
        self._loaded.add(unit)
        for tensor in self._units[unit]:
            tensor.load(self._device)
            self.held += tensor.plan.nbytes

    def free(self) -> None:
        """Drops every unit that is loaded."""
        for unit in self._loaded:
            for tensor in self._units[unit]:
                tensor.free()
        self._loaded.clear()
        self.held = 0

    def _has_tensors(self, unit: str) -> bool:
        module = self._model.get_submodule(unit)
        return any(True for _ in (*module.parameters(), *module.buffers()))

    def _needs(self, unit: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if unit not in self._loaded:
                self.load(unit)

        return hook

    def _fetch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Moves what the outermost module of a unit is called with; modules in it find it there."""
        self._inside += 1
        return self.moved((args, kwargs), self._device) if self._inside == 1 else None

    def _give_back(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        self._inside -= 1
        return self.moved(output, self._home) if self._inside == 0 else None

    @staticmethod
    def moved(tree: Any, device: torch.device) -> Any:
        """Nested tuples, lists and mappings with their tensors on a device."""
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), tree)


def _unit(module: str, blocks: frozenset[str], above: set[str]) -> str | None:
    """The unit that a module's own tensors are in: a block, or the largest part without one; None where it has both."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        prefix = ".".join(parts[:count])
        if prefix in blocks or prefix not in above:
            return prefix
    return None
