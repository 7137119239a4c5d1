"""A family made from what a model says about itself and shows of its structure, for every model no file here lists.

diffusers' models declare the classes of their repeated blocks (`_repeated_blocks`, `_no_split_modules`). Where a model
declares none, lists of modules of one class are its blocks, and a U-Net's are those on its way down, in its middle and
on its way up. A plain `torch.nn.Module` without any of these has no blocks, and then every Linear counts.
"""

from __future__ import annotations

import re

from torch import nn

from quant.families.base import Family
from quant.families.structure import down_mid_up, repeated_lists, role_patterns


def generic_family(model: nn.Module) -> Family:
    """The family of a model that is not in the table.

    Layers inside the blocks are quantized, all others kept. No inputs are assumed to be shared: that costs a smoothing
    vector per layer and is never wrong.
    """
    sequence = down_mid_up(model)
    return Family(
        name="generic",
        classes=(type(model).__name__,),
        blocks="|".join(map(re.escape, sequence)) if sequence else _blocks(model),
        roles=role_patterns(model),
        sequence=sequence,
    )


def _blocks(model: nn.Module) -> str | None:
    """The expression of a layer inside one of the blocks; None where the model has no lists of blocks."""
    lists = _declared_lists(model) or repeated_lists(model)
    # The outermost lists only: a UNet's transformer blocks lie within blocks that are declared too.
    outer = sorted(name for name in lists if not any(name.startswith(f"{other}.") for other in lists))
    return rf"(?:{'|'.join(map(re.escape, outer))})\.(\d+)\." if outer else None


def _declared_lists(model: nn.Module) -> set[str]:
    declared = {
        *(getattr(model, "_repeated_blocks", None) or ()),
        *(getattr(model, "_no_split_modules", None) or ()),
    }
    return {
        name.rpartition(".")[0]
        for name, module in model.named_modules()
        if type(module).__name__ in declared and name.rpartition(".")[2].isdigit()
    }
