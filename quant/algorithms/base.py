"""What an algorithm has to know: its name and options, the statistics it reads, the layers it is for, and its stages.

An algorithm is one subclass in one file, listed in `quant.algorithms.table`. `quant.algorithms.stages` has the order in
which stages follow one another; an algorithm takes part in those that it defines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from quant.algorithms.input_hessian import InputHessian
from quant.errors import RecipeError
from quant.fields import is_number
from quant.formats.grid import Grid
from quant.formats.scheme import Scheme, TensorFormat
from quant.formats.tensors import LowRank
from quant.recipe_parts import Group
from quant.text import shown

#: Raises RecipeError where an option's value, the first argument, is none; the second says where it stands.
Check = Callable[[object, str], None]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Needs:
    """Statistics of a layer's input that calibration has to collect.

    Attributes:
        amax: one absolute maximum over all of the input.
        amax_by_timestep: one for each timestep that the denoiser is called with.
        channel_amax: an absolute maximum per input channel, [C]; K is C, or C for each tap of a convolution.
        channel_mean: a mean absolute value per input channel, [C].
        rows: a sample of input rows, [R, K]; of a convolution, of its windows.
        hessian: sum of x x^T over all rows, [K, K].
    """

    amax: bool = False
    amax_by_timestep: bool = False
    channel_amax: bool = False
    channel_mean: bool = False
    rows: bool = False
    hessian: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(**{field.name: getattr(self, field.name) or getattr(other, field.name) for field in fields(self)})

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class AmaxByTimestep:
    """The largest value of one input in each part of the noise schedule.

    Attributes:
        timesteps: float64 [S], rising: what the denoiser was called with.
        amax: float32 [S], absolute.
        rows: int64 [S], how many rows were seen there.
    """

    timesteps: torch.Tensor
    amax: torch.Tensor
    rows: torch.Tensor


@dataclass(frozen=True)
class Statistics:
    """What was seen of one input; a field is None where it was not asked for.

    Attributes:
        amax: float32 [1].
        channel_amax: float32 [C].
        channel_mean: float32 [C], the mean of absolute values.
        rows: float32 [R, K], drawn evenly from everything seen.
        hessian: float64 [K, K], the mean of x x^T over all rows, weighted by timestep where that was asked for.
        seen_rows: how many rows there were.
        amax_by_timestep: of the largest values.
        one_scale: is a dynamic scale one for many rows, so that the largest of all decides, and not a row's own?
    """

    amax: torch.Tensor | None = None
    channel_amax: torch.Tensor | None = None
    channel_mean: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    hessian: torch.Tensor | None = None
    seen_rows: int = 0
    amax_by_timestep: AmaxByTimestep | None = None
    one_scale: bool = False


@dataclass(frozen=True)
class Smoothing:
    """Factors that an algorithm found for one input.

    Attributes:
        pre_quant_scale: float32, one a channel [C], or None where no smoothing is best.
        alpha: the strength, 0 for none.
        error: relative output error with it, and `error_without`, without.
    """

    pre_quant_scale: torch.Tensor | None
    alpha: float
    error: float
    error_without: float


@dataclass(frozen=True)
class Pruned:
    """A weight on its way to be rounded.

    Attributes:
        original: float32 [N, K].
        weight: float32 [N, K], with the zeros of a 2:4 mask and survivors that make up for them; `original` if dense.
        mask: bool [N, K]; None for a dense layer.
        compensated: do the survivors make up for what was pruned?
    """

    original: torch.Tensor
    weight: torch.Tensor
    mask: torch.Tensor | None = None
    compensated: bool = True


@dataclass(frozen=True)
class Rounded:
    """What became of a weight.

    Attributes:
        weight: float32 [N, K] to be packed; on `grid` where there is one.
        grid: scales that an algorithm chose; None leaves them to the weight's own range.
        branch: what is added to the output in high precision.
        notes: `output_error`, relative to the output's own size, where a Hessian tells.
    """

    weight: torch.Tensor
    grid: Grid | None = None
    branch: LowRank | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def cpu(self) -> Rounded:
        """Return the same on the CPU."""
        grid, branch = self.grid, self.branch
        if grid is not None:
            zeros = grid.zero_point
            grid = Grid(grid.format, grid.scale.cpu(), None if zeros is None else zeros.cpu())
        if branch is not None:
            branch = LowRank(branch.up.cpu(), branch.down.cpu())
        return Rounded(self.weight.cpu(), grid, branch, self.notes)


class Algorithm:
    """One algorithm that a recipe's group may name.

    Attributes:
        name: as recipes spell it.
        options: what checks each option's value.
        smooths: does it find factors of an input, which all layers that read it share?
        rounds: does it round weights otherwise than to nearest on their own range?
        by_largest: is a static input's range known from its largest value alone, so that each bin may have its own?
        branches: does it add a low-rank branch? Then it needs statistics: its rank is known before a weight is read.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Check]] = {}
    smooths: ClassVar[bool] = False
    rounds: ClassVar[bool] = False
    by_largest: ClassVar[bool] = True
    branches: ClassVar[bool] = False

    def needs(self, group: Group) -> Needs:
        """Return the statistics that it reads for a group's layers, beyond what their scheme needs."""
        return Needs()

    def refuses(self, group: Group) -> str | None:
        """Return why it is not for a group, in words that its quoted name begins; None where it is."""
        if group.scheme.weights is None:
            return f"'{self.name}' quantizes, and {group.scheme.name} leaves weights as they are"
        return None

    def smooth(
        self, weights: Sequence[torch.Tensor], schemes: Sequence[Scheme], seen: Statistics, options: Options
    ) -> Smoothing:
        """Return factors for layers that read one input; of an algorithm that `smooths`.

        Args:
            weights: each [N_i, K], of one K, on the device where the model runs.
            schemes: one a weight.
            seen: of the input, with what `needs` asked for.
            options: of the recipe.
        """
        raise NotImplementedError

    def input_range(self, seen: Statistics, inputs: TensorFormat, options: Options) -> torch.Tensor:
        """Return float32 [1], the largest absolute value that a static input's codes have to reach."""
        assert seen.amax is not None
        return seen.amax

    def shrinks(self, options: Options) -> tuple[float, ...] | None:
        """Return factors on the range of each part of a weight, if trying these is all that it does to weights.

        1 is tried too; that of the least squared error is taken, of equal ones the largest. None where it does more.
        """
        return None if self.rounds or self.smooths else ()

    def rounds_smoothed(self, options: Options) -> bool:
        """Are weights rounded by `round_smoothed` once they are smoothed? Else to nearest, when they are packed."""
        return False

    def round_smoothed(
        self, weights: Sequence[torch.Tensor], tensor_format: TensorFormat, hessian: InputHessian, options: Options
    ) -> list[Rounded]:
        """Return weights divided by their factors, rounded; of an algorithm that `rounds_smoothed`.

        Args:
            weights: float32 [N_i, K], divided, of layers that read one input.
            tensor_format: of the weights.
            hessian: of the input as it is smoothed.
            options: of the recipe.
        """
        raise NotImplementedError

    def round_together(
        self,
        layers: Sequence[Pruned],
        tensor_format: TensorFormat,
        hessian: InputHessian | None,
        options: Options,
    ) -> list[Rounded]:
        """Return the weights of layers that read one input, put onto grids; of an algorithm that `rounds`.

        An algorithm defines this where it can share work between them, or else `round`.

        Args:
            layers: their weights, all of one group of the recipe.
            tensor_format: of the weights.
            hessian: of the input; None where `needs` asked for none.
            options: of the recipe.
        """
        matrix = None if hessian is None else hessian.matrix
        return [self.round(each, tensor_format, matrix, options) for each in layers]

    def round(
        self, pruned: Pruned, tensor_format: TensorFormat, hessian: torch.Tensor | None, options: Options
    ) -> Rounded:
        """Return a weight put onto a grid; of an algorithm that `rounds`.

        Args:
            pruned: the weight.
            tensor_format: of the weight.
            hessian: [K, K], sum x x^T of the layer's inputs; None where `needs` asked for none.
            options: of the recipe.
        """
        raise NotImplementedError


def check_flag(value: object, where: str) -> None:
    """Raises RecipeError unless the value is true or false."""
    if not isinstance(value, bool):
        raise RecipeError(f"{where}: must be true or false, got {shown(value)}")


def check_damping(value: object, where: str) -> None:
    """Raises RecipeError unless the value is a number between 0 and 1."""
    if not is_number(value) or not 0 < value < 1:
        raise RecipeError(f"{where}: must be a number between 0 and 1, got {shown(value)}")


#: Ways to round a smoothed weight.
_ROUNDINGS = ("nearest", "gptq")


def check_rounding(value: object, where: str) -> None:
    """Raises RecipeError unless the value names a way to round a smoothed weight."""
    if value not in _ROUNDINGS:
        raise RecipeError(f"{where}: must be {' or '.join(_ROUNDINGS)}, got {shown(value)}")
