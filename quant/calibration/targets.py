"""Which layers of a model the patterns of a recipe name, and which group takes a layer.

What a person writes wins over a keep list, but only where it was meant: `re:.*attn.*` and `Linear` are about layers in
general, and a keep list is there to except some of them. So a pattern names a kept layer on purpose if it is the
layer's own name, or an expression or role that names nothing but layers of keep lists: there is nothing else that it
could have been written for. An expression that names every layer of the model is about layers in general, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn

from quant.calibration.keep_lists import kept_as
from quant.errors import RecipeError
from quant.families.base import Family
from quant.formats.table import adapted, misfit
from quant.layers.kinds import class_names
from quant.patterns import is_role, is_specific, matches
from quant.recipe import Recipe
from quant.recipe_parts import ADAPT, NEXT, REFUSE, Group
from quant.text import VALUE, cut


@dataclass(frozen=True)
class Taken:
    """A group that takes a layer.

    Attributes:
        taken_by: the recipe's group.
        group: the same, with smaller groups of columns where its own do not fit.
        note: what is otherwise than the recipe and the keep lists let expect, and why; empty where nothing is.
    """

    taken_by: Group
    group: Group
    note: str = ""


class Targets:
    """The layers that the patterns of one recipe name in one model."""

    def __init__(self, recipe: Recipe, family: Family, layers: Mapping[str, nn.Module], listed: Mapping[str, str]):
        """Takes the layers that patterns may name, and which keep list each that can be quantized is on, or "".

        Raises:
            RecipeError: an expression that takes too long.
        """
        self._recipe, self._layers, self._listed = recipe, layers, listed
        self._seen = [(name, _class_names(module), family.role(name)) for name, module in layers.items()]
        patterns = {*recipe.ignore, *(target for group in recipe.groups for target in group.targets)}
        self._named = {pattern: self._names(pattern) for pattern in patterns}
        self._on_purpose = {pattern for pattern in patterns if self._is_on_purpose(pattern)}

    def named_by(self, group: Group) -> frozenset[str]:
        """Return the layers that the targets of a group name."""
        return frozenset().union(*(self._named[target] for target in group.targets))

    def kept(self, name: str) -> str:
        """Return why a layer stays as it is, by the recipe's `ignore` or a keep list; empty where it does not."""
        pattern = next((pattern for pattern in self._recipe.ignore if name in self._named[pattern]), None)
        if pattern is not None:
            return f"ignored by the recipe ('{cut(pattern, VALUE)}')"
        return "" if any(True for _ in self._groups(name)) else kept_as(self._listed[name])

    def take(self, name: str, n: int, k: int, kernel_size: tuple[int, ...] = ()) -> Taken | str:
        """Return the first group that takes a layer with a weight [n, k], or why none does.

        Raises:
            RecipeError: the layer does not fit a group that does not say what becomes of such layers.
        """
        misfits: list[str] = []
        listed = self._listed[name]
        for group, target in self._groups(name):
            found, why = fitted(group, n, k, kernel_size)
            if found is not None:
                purpose = f"{listed}: quantized because the recipe names it ('{cut(target, VALUE)}')" if listed else ""
                earlier = f"{misfits[0]}: the next group takes it" if misfits else ""
                return Taken(group, found, "; ".join(note for note in (purpose, earlier, why) if note))
            if group.misfits == REFUSE:
                raise RecipeError(
                    f"{self._recipe.name}: layer '{name}' {[n, k]}: {why}; or say 'misfits: keep' in its group to "
                    "leave such layers as they are, 'adapt' for smaller groups that fit, 'next' for the next group"
                )
            misfits.append(why)
            if group.misfits != NEXT:
                break
        return misfits[0] if misfits else "no group of the recipe targets it"

    def check(self, where: str) -> None:
        """Refuses a pattern that names nothing: a typing error would leave layers out in silence.

        A model may be without layers of a role.

        Raises:
            RecipeError: names the pattern, and a layer of the component `where`.
        """
        groups = enumerate(self._recipe.groups)
        patterns = [(f"groups[{i}].targets", target, group.targets) for i, group in groups for target in group.targets]
        for key, pattern, others in [*patterns, *(("ignore", pattern, ()) for pattern in self._recipe.ignore)]:
            if not is_role(pattern) and not self._named[pattern]:
                # A class that models have or have not, next to others: a group that takes no layer is an error later.
                if pattern in class_names() and len(others) > 1:
                    continue
                example = next((name for name, module in self._layers.items() if isinstance(module, nn.Linear)), "none")
                what = f"{self._recipe.name}: {key}: '{cut(pattern, VALUE)}'"
                raise RecipeError(f"{what} matches no layer of {where}; a Linear there is '{example}'")

    def _groups(self, name: str) -> Iterator[tuple[Group, str]]:
        """The groups that may take a layer, in order, each with the target that names it.

        A layer on a keep list is for those alone that name it on purpose.
        """
        listed = self._listed.get(name)
        for group in self._recipe.groups:
            for target in group.targets:
                if name in self._named[target] and (not listed or target == name or target in self._on_purpose):
                    yield group, target
                    break

    def _names(self, pattern: str) -> frozenset[str]:
        return frozenset(name for name, classes, role in self._seen if matches(pattern, name, classes, role))

    def _is_on_purpose(self, pattern: str) -> bool:
        """Whether a pattern names nothing but layers of keep lists, and not all layers that there are."""
        mine = self._named[pattern] & self._listed.keys()
        if not is_specific(pattern) or len(mine) == len(self._listed):
            return False
        return all(self._listed[name] for name in mine)


def fitted(group: Group, n: int, k: int, kernel_size: tuple[int, ...] = ()) -> tuple[Group | None, str]:
    """Return a group of a recipe as a layer with a weight [n, k] has it, and why that is not as it stands.

    The group itself where the weight fits; with smaller groups of columns where those fit and it adapts; None else.
    """
    wanted = replace(group.layer_format, kernel_size=kernel_size)
    reason = misfit(wanted, n, k)
    if reason is None:
        return group, ""
    smaller = adapted(wanted, n, k) if group.misfits == ADAPT else None
    if smaller is None or smaller.scheme.weights is None or group.scheme.weights is None:
        return None, reason
    sizes = group.scheme.weights.group_size, smaller.scheme.weights.group_size
    columns = f"in_channels {k // wanted.taps}" if kernel_size else f"in_features {k}"
    why = f"groups of {sizes[0]} do not fit {columns}: groups of {sizes[1]} used"
    return replace(group, scheme=smaller.scheme, spelled=smaller.scheme.name), why


def _class_names(module: nn.Module) -> list[str]:
    return [cls.__name__ for cls in type(module).__mro__]
