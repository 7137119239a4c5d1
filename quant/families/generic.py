"""A family made from what a model says about itself, for every model no file here lists.

diffusers' models declare the classes of their repeated blocks (`_repeated_blocks`, `_no_split_modules`); a plain
`torch.nn.Module` declares nothing, and then every Linear counts as part of a block.
"""

from __future__ import annotations

import re

from torch import nn

from quant.families.base import Family


def generic_family(model: nn.Module) -> Family:
    """The family of a model that is not in the table.

    Layers inside the declared blocks are quantized, all others kept. No inputs are assumed to be shared: that
    costs a smoothing vector per layer and is never wrong.
    """
    declared = {
        *(getattr(model, "_repeated_blocks", None) or ()),
        *(getattr(model, "_no_split_modules", None) or ()),
    }
    prefixes = {
        name.rpartition(".")[0]
        for name, module in model.named_modules()
        if type(module).__name__ in declared and name.rpartition(".")[2].isdigit()
    }
    if not prefixes:
        return Family(name="generic", classes=(type(model).__name__,), blocks=None)
    # The outermost lists only: a UNet's transformer blocks lie within blocks that are declared too.
    outer = sorted(p for p in prefixes if not any(p.startswith(f"{q}.") for q in prefixes))
    lists = "|".join(re.escape(prefix) for prefix in outer)
    return Family(name="generic", classes=(type(model).__name__,), blocks=rf"(?:{lists})\.(\d+)\.")
