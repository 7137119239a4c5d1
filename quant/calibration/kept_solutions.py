"""Solutions on disk while a calibration goes on: memory stays bounded, and a killed run keeps what it had solved.

A folder with a safetensors file for each input and what its layers became, whole or absent. Weights lie there as codes
where they are on a grid, and are read back when the checkpoint is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from quant.calibration.solution import KeptWeight, Solution
from quant.checkpoint.kept_files import keep, kept
from quant.errors import CalibrationError
from quant.files.json_files import text_of
from quant.files.places import reason
from quant.formats.grid import Grid
from quant.formats.tensors import LowRank, by_column
from quant.recipe_parts import Group


class KeptSolutions:
    """One run's folder. Another run's files, known by their key, count as absent."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def load(self, number: int, groups: Sequence[Group]) -> list[Solution] | None:
        """What was stored under a number; None where nothing was, or another run's, or a damaged file.

        Args:
            groups: of each layer, in the order of `store`: they have the formats of the grids.
        """
        path = self._path(number)
        found = kept(path, key=self._key)
        if found is None:
            return None
        tensors, described = found
        notes = json.loads(described["notes"])
        if len(notes) != len(groups):
            return None
        names = set(tensors)
        small = {name: tensor for name, tensor in tensors.items() if not name.endswith(("weight", "codes"))}
        return [self._solution(path, str(i), group, names, small, notes[i]) for i, group in enumerate(groups)]

    def store(self, number: int, solutions: Sequence[Solution], groups: Sequence[Group]) -> list[Solution]:
        """Writes solutions and returns them with weights that are read from there.

        Raises:
            CalibrationError: the disk refuses.
        """
        tensors: dict[str, torch.Tensor] = {}
        for i, solution in enumerate(solutions):  # copies: layers that read one input share a factor
            tensors.update({f"{i}.{name}": tensor.clone().contiguous() for name, tensor in _tensors(solution).items()})
        path = self._path(number)
        notes = text_of([dict(solution.notes) for solution in solutions], str(path), CalibrationError)
        keep(path, tensors, {"key": self._key, "notes": notes})
        stored = self.load(number, groups)
        if stored is None:
            raise CalibrationError(f"{path}: was written and cannot be read back")
        return stored

    def settle(self, component: str) -> None:
        """Notes that no solution of a component will change any more.

        Raises:
            CalibrationError: the disk refuses.
        """
        keep(self._settled(component), {}, {"key": self._key})

    def is_settled(self, component: str) -> bool:
        """Whether a run with this key has noted it."""
        return kept(self._settled(component), key=self._key) is not None

    def _settled(self, component: str) -> Path:
        return self._folder / f"settled-{component}.safetensors"

    def drop(self, number: int) -> None:
        """Removes what was stored under a number.

        Raises:
            CalibrationError: the disk refuses.
        """
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:
            raise CalibrationError(f"{self._path(number)}: cannot be removed: {reason(error)}") from None

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05}.safetensors"

    def _solution(
        self,
        path: Path,
        index: str,
        group: Group,
        names: set[str],
        small: dict[str, torch.Tensor],
        notes: dict[str, object],
    ) -> Solution:
        mine = {
            name.removeprefix(f"{index}."): tensor for name, tensor in small.items() if name.startswith(f"{index}.")
        }
        factor, grid = mine.get("pre_quant_scale"), None
        if "scale" in mine:
            assert group.scheme.weights is not None
            grid = Grid(group.scheme.weights, mine["scale"], mine.get("zero_point"))
        weight = None
        if f"{index}.codes" in names:
            assert grid is not None
            weight = KeptWeight(path, f"{index}.codes", grid, factor)
        elif f"{index}.weight" in names:
            weight = KeptWeight(path, f"{index}.weight")
        branch = LowRank(mine["up"], mine["down"]) if "up" in mine else None
        return Solution(mine.get("input_scale"), factor, notes, weight, grid, branch, mine.get("bin_edges"))


def _tensors(solution: Solution) -> dict[str, torch.Tensor]:
    small = ("input_scale", "bin_edges", "pre_quant_scale")
    found: dict[str, torch.Tensor | None] = {name: getattr(solution, name) for name in small}
    if solution.grid is not None:
        found |= {"scale": solution.grid.scale, "zero_point": solution.grid.zero_point}
    if solution.low_rank is not None:
        found |= {"up": solution.low_rank.up, "down": solution.low_rank.down}
    if isinstance(solution.weight, torch.Tensor):
        if solution.grid is None:
            found["weight"] = solution.weight
        else:
            factor = solution.pre_quant_scale
            weight = solution.weight
            divided = weight if factor is None else weight / by_column(factor, weight.shape[1])
            found["codes"] = solution.grid.codes(divided)
    return {name: tensor for name, tensor in found.items() if tensor is not None}
