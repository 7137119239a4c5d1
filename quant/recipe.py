"""A recipe: which layers get which scheme, found by which algorithm, calibrated how.

Frozen and checked when made, so code below never meets a half-valid recipe. Reads YAML with the safe loader.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant.errors import RecipeError
from quant.fields import is_number, load_yaml, mapping, strings, typed
from quant.files.places import is_file, is_plain_name
from quant.files.regular_files import read_text
from quant.patterns import check_pattern
from quant.recipe_parts import Calibration, Group, KeepBudget, read_calibration, read_group, read_keep_budget
from quant.text import cut, first_line, shown

VERSION = 1
_RECIPE_KEYS = (
    "version",
    "summary",
    "components",
    "groups",
    "ignore",
    "keep_edge_blocks",
    "keep_budget",
    "calibration",
)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        groups: the first group that matches a layer wins.
        components: pipeline components to quantize; None means every denoiser (both experts of Wan2.2).
        ignore: patterns of layers left alone, on top of what the model family keeps.
        keep_edge_blocks: share of the blocks at each end that stays in high precision, 0 to 0.5. Relative to the
            depth, because "the first three" protects much of a 12-block model and little of a 60-block one.
        keep_budget: the most sensitive layers are found and kept too; None where this is not asked for.
    """

    groups: tuple[Group, ...]
    summary: str = ""
    components: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    keep_edge_blocks: float = 0.0
    keep_budget: KeepBudget | None = None
    calibration: Calibration = field(default_factory=Calibration)
    name: str = "recipe"

    def __post_init__(self) -> None:
        """Raises RecipeError, with the place: an algorithm, option or method that is not there or not for a group."""
        for i, group in enumerate(self.groups):
            if group.algorithm is not None or group.sparsity is not None or group.bins > 1 or group.steps:
                from quant.algorithms.table import check_group  # here: other recipes need no torch

                check_group(group, f"{self.name}: groups[{i}]")

    @property
    def has_steps(self) -> bool:
        """True where some inputs are not quantized at some steps of the schedule, which has to be known then."""
        return any(group.steps is not None for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """A mapping that `from_dict` reads back to an equal recipe."""
        body: dict[str, Any] = {"version": VERSION, "summary": self.summary}
        if self.components is not None:
            body["components"] = list(self.components)
        body["groups"] = [group.to_dict() for group in self.groups]
        if self.ignore:
            body["ignore"] = list(self.ignore)
        if self.keep_edge_blocks:
            body["keep_edge_blocks"] = self.keep_edge_blocks
        if self.keep_budget is not None:
            body["keep_budget"] = self.keep_budget.to_dict()
        body["calibration"] = self.calibration.to_dict()
        return body

    @property
    def sha256(self) -> str:
        """Hash of the recipe's meaning: comments, key order, its summary and a scheme's spelling do not change it."""
        meaning = {key: value for key, value in self.to_dict().items() if key != "summary"}
        meaning["groups"] = [{**group.to_dict(), "scheme": group.scheme.to_dict()} for group in self.groups]
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(cls, body: object, name: str = "recipe") -> Recipe:
        """Checks and freezes a recipe's mapping.

        Args:
            body: what the YAML file holds.
            name: the file or recipe name that errors start with.

        Raises:
            RecipeError: names the key and says what would be right.
        """
        fields = mapping(body, name, _RECIPE_KEYS)
        version = fields.get("version")
        if type(version) is not int or version != VERSION:
            raise RecipeError(f"{name}: version is {shown(version)}; this release reads {VERSION}")
        groups = fields.get("groups")
        if not isinstance(groups, list) or not groups:
            raise RecipeError(f"{name}: 'groups' must be a non-empty list of {{targets, scheme}}")
        edge = fields.get("keep_edge_blocks", 0.0)
        if not is_number(edge) or not 0 <= edge <= 0.5:
            raise RecipeError(f"{name}: keep_edge_blocks is a share of the blocks from 0 to 0.5, got {shown(edge)}")
        components = fields.get("components")
        if components is not None:
            for component in strings(components, f"{name}: components"):
                if not is_plain_name(component):
                    raise RecipeError(f"{name}: components: {shown(component)} is not a plain folder name")
        return cls(
            groups=tuple(read_group(group, f"{name}: groups[{i}]") for i, group in enumerate(groups)),
            summary=typed(fields.get("summary", ""), str, f"{name}: summary"),
            components=None if components is None else strings(components, f"{name}: components"),
            ignore=tuple(
                check_pattern(pattern, f"{name}: ignore[{i}]")
                for i, pattern in enumerate(typed(fields.get("ignore", []), list, f"{name}: ignore"))
            ),
            keep_edge_blocks=float(edge),
            keep_budget=read_keep_budget(fields.get("keep_budget"), name),
            calibration=read_calibration(fields.get("calibration", {}), f"{name}: calibration"),
            name=name,
        )

    @classmethod
    def from_yaml(cls, text: str, name: str = "recipe") -> Recipe:
        """Parses YAML text. Raises RecipeError with the line where the text is not YAML."""
        return cls.from_dict(load_yaml(text, name), name)

    @classmethod
    def from_file(cls, path: str | Path) -> Recipe:
        """Reads a YAML file. Raises RecipeError where it cannot be read."""
        try:
            if not is_file(Path(path)):
                raise RecipeError(f"{cut(str(path), 300)}: cannot be read as a recipe: no such file")
            text = read_text(Path(path))
        except (OSError, ValueError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe: {first_line(error)}") from None
        return cls.from_yaml(text, str(path))
