"""What torch keeps for a thread and not for a call: put aside while other calls have their turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Devices for which a model's code may turn `torch.autocast` on or off.
_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class TorchState:
    """Whether gradients and `torch.autocast` are on, as code within `with` statements has set it.

    Attributes:
        gradient: is a graph recorded?
        autocast: one (device type, is it on, to which dtype) for each type.
        cached: does autocast keep the weights that it casts?
        modes: what else is entered, which cannot be put aside: inference mode, modes of functions and of dispatch.
    """

    gradient: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    cached: bool
    modes: tuple[bool, int, int]

    @classmethod
    def now(cls) -> TorchState:
        """That of this thread."""
        return cls(
            torch.is_grad_enabled(),
            tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _DEVICES),
            torch.is_autocast_cache_enabled(),
            (
                torch.is_inference_mode_enabled(),
                torch._C._len_torch_function_stack(),
                torch._C._len_torch_dispatch_stack(),
            ),
        )

    def restore(self) -> None:
        """Makes it that of this thread again, but for modes."""
        torch._C._set_grad_enabled(self.gradient)
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
        torch.set_autocast_cache_enabled(self.cached)
