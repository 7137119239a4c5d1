"""Static ranges of inputs that leave out the rarest values: by percentile, or by the least squared error.

From a uniform sample of rows. ModelOpt's histogram calibrators find the same from all values, but count in float32, in
which a bin stops growing at 2^24: a few calls of a video model fill that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Pruned, Rounded, Statistics
from quant.algorithms.clipping import SHRINKS as WEIGHT_SHRINKS
from quant.algorithms.clipping import clipped_grid
from quant.errors import RecipeError
from quant.fields import is_number
from quant.formats.eight_bit import storage_dtype
from quant.formats.scheme import TensorFormat
from quant.kernels.numerics import encode, scale_from_amax
from quant.recipe_parts import Group
from quant.text import shown

PERCENTILE = 99.99
#: Factors on the largest value that are tried, from all of it down to a fifth.
SHRINKS = tuple(1 - 0.02 * i for i in range(41))
#: What an error of a weight counts by: the mean square of its input, or all alike.
_BY_INPUTS, _UNIFORM = "inputs", "none"


def check_percentile(value: object, where: str) -> None:
    """Raises RecipeError unless the value is a number above 50, up to 100."""
    if not is_number(value) or not 50 < value <= 100:
        raise RecipeError(f"{where}: must be a number above 50, up to 100, got {shown(value)}")


def check_importance(value: object, where: str) -> None:
    """Raises RecipeError unless the value names what an error of a weight counts by."""
    if value not in (_BY_INPUTS, _UNIFORM):
        raise RecipeError(f"{where}: must be {_BY_INPUTS} or {_UNIFORM}, got {shown(value)}")


def percentile_range(rows: torch.Tensor, percentile: float = PERCENTILE) -> torch.Tensor:
    """The absolute value that so many percent of all sampled values do not exceed.

    Args:
        rows: [R, K], float, not empty.
        percentile: above 0, up to 100.

    Returns:
        float32 [1].
    """
    values = rows.float().abs().flatten()
    # torch.quantile takes 2^24 values at most.
    position = max(1, min(values.numel(), round(percentile / 100 * values.numel())))
    return values.kthvalue(position).values.reshape(1)


def mse_range(rows: torch.Tensor, amax: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The range of least squared rounding error over the sample; values beyond it saturate.

    Args:
        rows: [R, K], float.
        amax: float32 [1], the largest value of all of the input; it is one of the ranges tried.
        dtype: of the codes, int8 or float8_e4m3fn.

    Returns:
        float32 [1].
    """
    values = rows.float()
    errors = []
    for shrink in SHRINKS:
        scale = scale_from_amax(amax * shrink, dtype)
        errors.append(float((encode(values, scale, dtype).float() * scale - values).double().square().sum()))
    return amax * SHRINKS[errors.index(min(errors))]


class Max(Algorithm):
    """A static input's range by its largest value, which is what a scheme does without an algorithm too."""

    name = "max"

    def refuses(self, group: Group) -> str | None:
        return _refuses_dynamic(self.name, group)


class Percentile(Algorithm):
    """A static input's range without its rarest values."""

    name = "percentile"
    by_largest = False
    options: ClassVar[Mapping[str, Check]] = {"percentile": check_percentile}

    def needs(self, group: Group) -> Needs:
        return Needs(rows=group.scheme.has_static_input)

    def refuses(self, group: Group) -> str | None:
        return _refuses_dynamic(self.name, group) or super().refuses(group)

    def input_range(self, seen: Statistics, inputs: TensorFormat, options: Options) -> torch.Tensor:
        assert seen.rows is not None
        return percentile_range(seen.rows, **options)


class Mse(Algorithm):
    """Weights on the ranges of least error, and static inputs likewise.

    An error counts by its input's mean square, or all alike where `importance` is "none": that takes no data.
    """

    name = "mse"
    by_largest = False
    rounds = True
    options: ClassVar[Mapping[str, Check]] = {"importance": check_importance}

    def needs(self, group: Group) -> Needs:
        weighted = dict(() if group.algorithm is None else group.algorithm.options).get("importance") != _UNIFORM
        return Needs(rows=group.scheme.has_static_input, hessian=weighted)

    def shrinks(self, options: Options) -> tuple[float, ...] | None:
        return tuple(sorted({*WEIGHT_SHRINKS} - {1.0}, reverse=True)) if options.get("importance") == _UNIFORM else None

    def input_range(self, seen: Statistics, inputs: TensorFormat, options: Options) -> torch.Tensor:
        assert seen.rows is not None and seen.amax is not None
        return mse_range(seen.rows, seen.amax, storage_dtype(inputs))

    def round(
        self, pruned: Pruned, tensor_format: TensorFormat, hessian: torch.Tensor | None, options: Options
    ) -> Rounded:
        grid = clipped_grid(pruned.weight, tensor_format, None if hessian is None else hessian.diagonal())
        return Rounded(grid.values(grid.codes(pruned.weight)), grid)


def _refuses_dynamic(name: str, group: Group) -> str | None:
    if group.scheme.has_static_input:
        return None
    return f"'{name}' finds static input scales, and {group.scheme.name} has dynamic ones"
