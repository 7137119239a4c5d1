"""Which inputs are gathered in which pass over the prompts: as many at once as memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from quant.algorithms.base import Needs
from quant.algorithms.table import needs_of
from quant.calibration.layer_plan import LayerPlan, Planned, planned
from quant.recipe import Recipe
from quant.recipe_parts import Group

#: A component, and a quantized layer of it.
Member = tuple[str, Planned]

#: Of an element of a Hessian: float64, and one more while it is solved.
_HESSIAN_BYTES = 16


@dataclass(frozen=True)
class InputGroup:
    """Quantized layers that read one input.

    Attributes:
        name: "component.layer" of the first of them, where the input is looked at.
        number: its place in the order of the model.
        members: all of them, in the order of the model.
        needs: what all their algorithms want to know of the input.
        width: K, its channels.
    """

    name: str
    number: int
    members: tuple[Member, ...]
    needs: Needs
    width: int

    @property
    def groups(self) -> list[Group]:
        """What the recipe says of each layer."""
        return [layer.group for _, layer in self.members]

    @property
    def cost(self) -> float:
        """Of solving them, in multiplications: K^3 of a Hessian, and K^2 for each row of a weight under it."""
        rows = sum(layer.shape[0] for _, layer in self.members)
        return float(self.width) ** 2 * (self.width + rows) if self.needs.hessian else float(self.width * rows)


def input_groups(plans: Mapping[str, list[LayerPlan]]) -> list[InputGroup]:
    """The quantized layers of all components by the input they read, in the order of the model."""
    by_input: dict[str, list[Member]] = {}
    for component, plan in plans.items():
        for layer in planned(plan):
            by_input.setdefault(f"{component}.{layer.input_group}", []).append((component, layer))
    found = []
    for number, members in enumerate(by_input.values()):
        component, first = members[0]
        needs = reduce(or_, (needs_of(layer.group) for _, layer in members))
        found.append(InputGroup(f"{component}.{first.name}", number, tuple(members), needs, first.shape[1]))
    return found


def passes(inputs: Sequence[InputGroup], hessian_gb: float) -> list[list[InputGroup]]:
    """Inputs in order, cut where the Hessians [K, K] of a pass would take more than `hessian_gb`.

    Args:
        inputs: of all components.
        hessian_gb: 10^9 bytes; an input that takes more has a pass of its own.
    """
    parts: list[list[InputGroup]] = [[]]
    used = 0.0
    for each in inputs:
        size = each.width**2 * _HESSIAN_BYTES / 1e9 if each.needs.hessian else 0.0
        if parts[-1] and size and used + size > hessian_gb:
            parts.append([])
            used = 0.0
        parts[-1].append(each)
        used += size
    return parts


def kept_bytes(plans: Mapping[str, list[LayerPlan]], recipe: Recipe, *, journal: bool = True) -> int:
    """What statistics and solutions take on disk at most while a run goes on, to within small vectors.

    Statistics of a pass are written anew while those before are still there; of solutions, codes are what counts.

    Args:
        plans, recipe: of the run.
        journal: are statistics written at all?
    """
    inputs = input_groups(plans)

    def gathered(each: InputGroup) -> int:
        rows = recipe.calibration.rows if each.needs.rows else 0
        return 8 * each.width**2 * bool(each.needs.hessian) + 4 * each.width * (rows + 2)

    parts = passes(inputs, recipe.calibration.hessian_gb)
    largest = max((sum(gathered(each) for each in part if each.needs) for part in parts), default=0)
    codes = sum(
        layer.shape[0] * layer.shape[1] * (1 if layer.group.scheme.weights is not None else 4)
        for each in inputs
        if each.needs.hessian
        for _, layer in each.members
    )
    return 2 * largest * journal + codes
