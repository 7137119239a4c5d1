"""What is known of a model family, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quant.patterns import ATTENTION as ATTENTION
from quant.patterns import FEED_FORWARD as FEED_FORWARD
from quant.patterns import MODULATION as MODULATION
from quant.patterns import ROLES as ROLES


@dataclass(frozen=True)
class Family:
    """One family of denoisers.

    Attributes:
        name: lower case, also the folder of its tuned recipes.
        classes: diffusers' class names.
        blocks: regular expression of a layer inside a repeated block; group 1 is the block's index. None for a
            model without repeated blocks, all of whose layers count.
        shared_inputs: names within a block of layers that read one and the same input. They share one smoothing
            vector, so that the input is quantized once for all of them.
        keep: (pattern, reason) of layers that stay in high precision, searched for in the layer's name.
        roles: (role, pattern) of what layers inside the blocks are for, searched for in the layer's name, the first
            that is found counts. A role is one of `ROLES`.
        fused_block: the module of `quant.layers.fused` that has `check_block` and `fuse_block` for its blocks; None
            where they have no fused block. A name, because that module imports diffusers.
    """

    name: str
    classes: tuple[str, ...]
    blocks: str | None
    shared_inputs: tuple[tuple[str, ...], ...] = ()
    keep: tuple[tuple[str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    fused_block: str | None = None

    def block(self, layer: str) -> tuple[str, int] | None:
        """The list of blocks a layer is in and its index there, ("blocks.", 3); None outside of them."""
        found = re.match(self.blocks, layer) if self.blocks is not None else None
        return (layer[: found.start(1)], int(found.group(1))) if found else None

    def role(self, layer: str) -> str | None:
        """What a layer is for, one of `ROLES`; None for any other, and for one outside of the blocks."""
        if self.blocks is not None and re.match(self.blocks, layer) is None:
            return None
        return next((role for role, pattern in self.roles if re.search(pattern, layer)), None)

    def input_group(self, layer: str) -> str:
        """A name that is equal for layers reading the same input: the first of them, or the layer itself."""
        found = re.match(self.blocks, layer) if self.blocks is not None else None
        if found is None:
            return layer
        prefix, within = layer[: found.end()], layer[found.end() :]
        for members in self.shared_inputs:
            if within in members:
                return prefix + members[0]
        return layer
