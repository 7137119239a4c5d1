"""`torch.autocast` for layers whose ops it does not know."""

from __future__ import annotations

import torch


def autocast_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype in which `nn.Linear` would take x: autocast's where that is on for x's device, else x's own.

    Codes and float64 stay what they are.
    """
    if x.is_meta:  # which autocast has no word for
        return x.dtype
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.is_floating_point() and x.itemsize in (2, 4):
        return torch.get_autocast_dtype(device)
    return x.dtype


def autocast(x: torch.Tensor) -> torch.Tensor:
    """x in its `autocast_dtype`."""
    dtype = autocast_dtype(x)
    return x if dtype == x.dtype else x.to(dtype)
