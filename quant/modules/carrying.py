"""What a Linear has beside its tensors and a quantized layer in its place takes over: hooks and plain attributes."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

#: Of `nn.Module`, each a mapping but for the last.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)
_PLAIN = (int, float, str, bool, type(None), tuple)


def carry_over(linear: nn.Module, layer: nn.Module, memo: dict[int, Any]) -> None:
    """Gives `layer` a copy of what was put onto `linear`, hooks in their order.

    Args:
        memo: of the `copy.deepcopy` that copies the model around them, so that hooks' objects are copied once.
    """
    for name in _HOOKS:
        setattr(layer, name, copy.deepcopy(getattr(linear, name), memo))
    known = vars(nn.Linear(1, 1, device="meta"))
    for key, value in vars(linear).items():
        if key not in known and key not in vars(layer) and isinstance(value, _PLAIN):
            setattr(layer, key, value)
