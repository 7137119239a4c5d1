"""Every algorithm that a recipe may name, and what a group of one needs: the one list of them."""

from __future__ import annotations

from dataclasses import replace

from quant.algorithms.awq import Awq
from quant.algorithms.base import Algorithm, Needs, Options
from quant.algorithms.gptq import Gptq
from quant.algorithms.pruning import PRUNINGS, Pruning
from quant.algorithms.ranges import Max, Mse, Percentile
from quant.algorithms.smoothquant import SmoothQuant
from quant.algorithms.svdquant import SvdQuant
from quant.errors import RecipeError
from quant.recipe_parts import Algorithm as Named
from quant.recipe_parts import Group
from quant.text import shown

ALGORITHMS: tuple[Algorithm, ...] = (Max(), Mse(), Percentile(), SmoothQuant(), Awq(), Gptq(), SvdQuant())
#: What a group without an algorithm does: its scheme's own ranges, rounded to nearest.
_NEAREST = Algorithm()


def algorithm_of(group: Group) -> Algorithm:
    """Return a group's algorithm; one that takes part in no stage where it names none.

    Raises:
        KeyError: it names one that is not listed.
    """
    if group.algorithm is None:
        return _NEAREST
    return {each.name: each for each in ALGORITHMS}[group.algorithm.name]


def options_of(group: Group) -> Options:
    """Return the options of a group's algorithm."""
    return {} if group.algorithm is None else dict(group.algorithm.options)


def pruning_of(group: Group) -> Pruning | None:
    """Return the method that chooses a group's zeros; None for dense layers."""
    if group.sparsity is None:
        return None
    return {each.name: each for each in PRUNINGS}[group.sparsity.method]


def needs_of(group: Group) -> Needs:
    """What a group's scheme, algorithm and sparsity need; nothing for round-to-nearest with dynamic inputs."""
    pruning = pruning_of(group)
    needs = Needs(amax=group.scheme.has_static_input, amax_by_timestep=group.bins > 1)
    needs = needs | algorithm_of(group).needs(group)
    return needs if pruning is None else needs | pruning.reads


def in_short(group: Group) -> Group:
    """Return a group whose layers have the same tensors, found without what only decides which codes and zeros.

    That changes no time of a layer, and may take minutes. Not for algorithms that add a branch.
    """
    algorithm, sparsity = group.algorithm, group.sparsity
    if algorithm is not None:
        options = tuple((key, value) for key, value in algorithm.options if key != "rounding")
        algorithm = replace(algorithm, options=options) if algorithm_of(group).smooths else None
    quick = next(each.name for each in PRUNINGS if not each.reads)
    return replace(group, algorithm=algorithm, sparsity=None if sparsity is None else replace(sparsity, method=quick))


def check_group(group: Group, where: str) -> None:
    """Refuses a group whose algorithm or sparsity is not listed, has another option or value, or is not for its scheme.

    Args:
        group: of a recipe.
        where: what to name in errors, such as "w8a8: groups[0]".

    Raises:
        RecipeError: names the place, and what would be right.
    """
    methods = [each.name for each in PRUNINGS]
    if group.sparsity is not None and group.sparsity.method not in methods:
        what = f"must be one of {', '.join(methods)}, got {shown(group.sparsity.method)}"
        raise RecipeError(f"{where}.sparsity.method: {what}")
    if group.algorithm is not None:
        _check_algorithm(group, group.algorithm, f"{where}.algorithm")
    if group.bins > 1:
        _check_bins(group, where)
    if group.steps is not None and group.scheme.input_activations is None:
        raise RecipeError(f"{where}.steps: {group.scheme.name} quantizes no input that could stay as it is")


def _check_algorithm(group: Group, named: Named, where: str) -> None:
    known = [each.name for each in ALGORITHMS]
    if named.name not in known:
        raise RecipeError(f"{where}: unknown algorithm {shown(named.name)}; known: {', '.join(known)}")
    algorithm = algorithm_of(group)
    for key, value in named.options:
        if key not in algorithm.options:
            options = ", ".join(algorithm.options) or "none"
            raise RecipeError(f"{where}: unknown option {shown(key)} of {algorithm.name}; known: {options}")
        algorithm.options[key](value, f"{where}.{key}")
    reason = algorithm.refuses(group)
    if reason is not None:
        raise RecipeError(f"{where}: {reason}")


def _check_bins(group: Group, where: str) -> None:
    """Raises RecipeError for ranges in bins that the scheme has none of, or the algorithm finds otherwise."""
    if not group.scheme.has_static_input:
        raise RecipeError(f"{where}.bins: {group.scheme.name} has no static input whose ranges could be in bins")
    algorithm = algorithm_of(group)
    if algorithm.smooths or not algorithm.by_largest:
        why = "finds one range for the whole schedule"
        raise RecipeError(f"{where}.bins: '{algorithm.name}' {why}; bins go with ranges by the largest value ('max')")
