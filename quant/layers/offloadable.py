"""A layer whose tensors accelerate keeps elsewhere between calls, under the names and in the order of a checkpoint.

accelerate takes what a model's `state_dict()` has and puts it into the layer for each call, by its name and shape. A
layer whose weight is in the order of a kernel has other names and shapes, so it goes back to a checkpoint's when
accelerate attaches itself, which it does by setting `_hf_hook`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quant.errors import ModelError


class Offloadable(nn.Module):
    """What a quantized layer is to accelerate."""

    def held(self) -> dict[str, torch.Tensor]:
        """The packed tensors, in the order they are in; not the bias."""
        raise NotImplementedError

    def prepack(self) -> Any:
        """Puts the weight into the order that the ops of its device read."""
        raise NotImplementedError

    def _unpack(self) -> None:
        """Back to the tensors of a checkpoint."""
        raise NotImplementedError

    @property
    def _hf_hook(self) -> Any:
        """accelerate's hook; AttributeError where there is none."""
        try:
            return vars(self)["_hf_hook"]
        except KeyError:
            raise AttributeError("_hf_hook") from None

    @_hf_hook.setter
    def _hf_hook(self, hook: Any) -> None:
        for each in getattr(hook, "hooks", (hook,)):
            if getattr(each, "offload", False):
                self._offloaded_by(each)
        vars(self)["_hf_hook"] = hook

    @_hf_hook.deleter
    def _hf_hook(self) -> None:
        del vars(self)["_hf_hook"]
        self.prepack()

    def _offloaded_by(self, hook: Any) -> None:
        """Takes the names and shapes that a hook has tensors for; it has emptied the layer already."""
        if _has(hook, self.held()):
            return
        self._unpack()
        if not _has(hook, self.held()):
            raise ModelError(
                f"accelerate cannot offload a {type(self).__name__}, whose tensors have other names in the model's "
                "state: load the model anew and without fused=True, or use enable_group_offload"
            )
        device = next(iter(hook.original_devices.values()))
        hook.original_devices = {name: device for name, _ in self.named_parameters(recurse=False)}


def _has(hook: Any, tensors: dict[str, torch.Tensor]) -> bool:
    """Has a hook all of these tensors, in these shapes?"""
    return all(name in hook.weights_map and hook.weights_map[name].shape == t.shape for name, t in tensors.items())
