"""The modules of a denoiser that calibration takes one after the other."""

from __future__ import annotations

from torch import nn

from quant.families.table import family_of


def blocks_of(model: nn.Module) -> list[str]:
    """Names of a model's repeated blocks in its own order; none lies within another, and a model may have none.

    A block of a U-Net is a stage of many layers: what its lists hold counts instead, one residual block or one
    transformer each.
    """
    family = family_of(model)
    found = dict.fromkeys(family.block_name(name) for name, _ in model.named_modules())
    blocks = [name for name in found if name is not None]
    outer = [name for name in blocks if not any(name.startswith(f"{other}.") for other in blocks)]
    if not family.sequence:
        return outer
    return [part for name in outer for part in _parts(name, model.get_submodule(name))]


def _parts(name: str, block: nn.Module) -> list[str]:
    """What the lists of a U-Net's block hold that has weights; the block itself where it has no lists."""
    lists = [(leaf, child) for leaf, child in block.named_children() if isinstance(child, nn.ModuleList)]
    parts = [
        f"{name}.{leaf}.{i}"
        for leaf, children in lists
        for i, child in children.named_children()
        if next(child.parameters(), None) is not None
    ]
    return parts or [name]
