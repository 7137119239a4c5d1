"""What is known of a model family, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quant.patterns import ATTENTION as ATTENTION
from quant.patterns import FEED_FORWARD as FEED_FORWARD
from quant.patterns import MODULATION as MODULATION
from quant.patterns import ROLES as ROLES

#: What `Family.block` names the blocks of a U-Net by, all of them being one list.
SEQUENCE = "down_mid_up."


@dataclass(frozen=True)
class Family:
    """One family of denoisers.

    Attributes:
        name: lower case, also the folder of its tuned recipes.
        classes: diffusers' class names.
        blocks: regular expression of a layer inside a repeated block; group 1 is the block's index, without it the
            block is its own list. None for a model without repeated blocks, all of whose layers count.
        shared_inputs: names of layers that read one and the same input, as they end within a block; `*` stands for an
            index, as often in each of them. The first that has a layer's name counts. They share one smoothing vector,
            so that the input is quantized once for all of them.
        keep: (pattern, reason) of layers that stay in high precision, searched for in the layer's name.
        roles: (role, pattern) of what layers inside the blocks are for, searched for in the layer's name, the first
            that is found counts. A role is one of `ROLES`.
        sequence: what `blocks` matches, in the order in which data passes, where the lists' own indices do not say it:
            a U-Net goes down, through its middle, and up. `family_of` reads it off the model.
        fused_block: the module of `quant.layers.fused` that has `check_block` and `fuse_block` for its blocks; None
            where they have no fused block. A name, because that module imports diffusers.
        fused_classes: those of `classes` whose blocks it fuses.
    """

    name: str
    classes: tuple[str, ...]
    blocks: str | None
    shared_inputs: tuple[tuple[str, ...], ...] = ()
    keep: tuple[tuple[str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    sequence: tuple[str, ...] = ()
    fused_block: str | None = None
    fused_classes: tuple[str, ...] = ()

    def block(self, layer: str) -> tuple[str, int] | None:
        """The list of blocks a layer is in and its index there, ("blocks.", 3); None outside of them."""
        found = self._in_block(layer)
        if found is None:
            return None
        if found.group() in self.sequence:
            return SEQUENCE, self.sequence.index(found.group())
        if found.lastindex is None:
            return found.group(), 0
        return layer[: found.start(1)], int(found.group(1))

    def block_name(self, layer: str) -> str | None:
        """The dotted name of the block that a layer is in, "blocks.3"; None outside of them."""
        found = self._in_block(layer)
        return None if found is None else found.group().removesuffix(".")

    def role(self, layer: str) -> str | None:
        """What a layer is for, one of `ROLES`; None for any other, and for one outside of the blocks."""
        if self.blocks is not None and self._in_block(layer) is None:
            return None
        return next((role for role, pattern in self.roles if re.search(pattern, layer)), None)

    def input_group(self, layer: str) -> str:
        """A name that is equal for layers reading the same input: the first of them, or the layer itself."""
        found = self._in_block(layer)
        if found is None:
            return layer
        prefix, within = layer[: found.end()], layer[found.end() :]
        for members in self.shared_inputs:
            for member in members:
                tail = re.search(rf"(?:^|\.)({_as_expression(member)})$", within)
                if tail is not None:
                    return prefix + within[: tail.start(1)] + _with_indices(members[0], tail.groups()[1:])
        return layer

    def _in_block(self, layer: str) -> re.Match[str] | None:
        return re.match(self.blocks, layer) if self.blocks is not None else None


def _as_expression(member: str) -> str:
    return r"(\d+)".join(map(re.escape, member.split("*")))


def _with_indices(member: str, indices: tuple[str, ...]) -> str:
    parts = member.split("*")
    return "".join(map("".join, zip(parts, (*indices, ""), strict=True)))
