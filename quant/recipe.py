"""A recipe: which layers get which scheme, found by which algorithm, calibrated how.

Frozen and checked when made, so code below never meets a half-valid recipe. Reads YAML with the safe loader.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant.errors import RecipeError
from quant.fields import check_count, mapping, strict_loader, strings, typed
from quant.form import SPARSITY, LayerForm, runs_sparse
from quant.patterns import check_pattern
from quant.scheme import UNQUANTIZED, Scheme

VERSION = 1
SPARSITY_METHODS = ("magnitude", "wanda", "sparsegpt", "search")
MISFITS = ("refuse", "keep")


@dataclass(frozen=True)
class Algorithm:
    """An algorithm's name and its options, as in `{name: smoothquant, alpha: search}`."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dict(self.options)}


@dataclass(frozen=True)
class Sparsity:
    """Zeros in a weight: two of every four neighbouring columns, chosen by `method`, one of `SPARSITY_METHODS`."""

    method: str
    structure: str = SPARSITY

    def to_dict(self) -> dict[str, Any]:
        return {"structure": self.structure, "method": self.method}


@dataclass(frozen=True)
class Group:
    """Layers that are quantized alike. The first group of a recipe that matches a layer wins.

    Attributes:
        targets: patterns of layers.
        scheme: formats of weight and input.
        algorithm: how scales and codes are found; None rounds to nearest.
        sparsity: 2:4, or None.
        misfits: what becomes of a layer whose shape does not fit the scheme: "refuse" is an error that names it,
            "keep" leaves it as it is.
        spelled: the scheme as the recipe wrote it.
    """

    targets: tuple[str, ...]
    scheme: Scheme
    algorithm: Algorithm | None = None
    sparsity: Sparsity | None = None
    misfits: str = "refuse"
    spelled: str | Mapping[str, Any] = ""

    @property
    def form(self) -> LayerForm:
        """What the group's layers are stored as, before anything is known of smoothing."""
        return LayerForm(self.scheme, sparse=self.sparsity is not None)

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"targets": list(self.targets), "scheme": self.spelled or self.scheme.name}
        if self.algorithm is not None:
            body["algorithm"] = self.algorithm.to_dict()
        if self.sparsity is not None:
            body["sparsity"] = self.sparsity.to_dict()
        if self.misfits != "refuse":
            body["misfits"] = self.misfits
        return body


@dataclass(frozen=True)
class Calibration:
    """How statistics are gathered.

    Attributes:
        samples: how many prompts are run; a shorter prompt file is run whole.
        steps: denoising steps; None takes the pipeline's own setting, because ranges differ between a few-step
            and a many-step schedule.
        seed: seed of the initial latents, one generator per prompt.
        rows: input rows kept per layer for algorithms that compare outputs, drawn evenly from all timesteps.
        hessian_gb: 10^9 bytes that the Hessians of one pass over the prompts may take; more layers are more passes.
        timestep_weights: what an input counts in Hessians, one number for each of as many equal parts of the noise
            schedule, the noisiest first; empty counts all alike.
    """

    samples: int = 32
    steps: int | None = None
    seed: int = 0
    rows: int = 512
    hessian_gb: float = 8.0
    timestep_weights: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"samples": self.samples, "steps": self.steps, "seed": self.seed, "rows": self.rows}
        if self.hessian_gb != Calibration.hessian_gb:
            body["hessian_gb"] = self.hessian_gb
        if self.timestep_weights:
            body["timestep_weights"] = list(self.timestep_weights)
        return body


@dataclass(frozen=True)
class KeepBudget:
    """How much a checkpoint may grow so that its most sensitive layers stay in higher precision.

    Calibration then measures each layer's sensitivity, and the recipe that it writes names the chosen layers instead.

    Attributes:
        share: of the bytes that the quantized components take without this, above 0.
        scheme: what those layers become; None leaves them as they are. One that needs no data.
        runs: how many prompts are run to measure, and `steps`, how many denoising steps of each are measured.
    """

    share: float
    scheme: Scheme | None = None
    runs: int = 4
    steps: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share < math.inf:
            raise RecipeError(f"keep_budget.share: must be a share above 0, such as 0.05, got {self.share!r}")
        if self.scheme is not None and (self.scheme.weights is None or self.scheme.has_static_input):
            raise RecipeError(f"keep_budget.scheme: {self.scheme.name} is not a scheme that needs no data")
        for key in ("runs", "steps"):
            check_count(getattr(self, key), 1, f"keep_budget.{key}")

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"share": self.share, "runs": self.runs, "steps": self.steps}
        return body if self.scheme is None else {"share": self.share, "scheme": self.scheme.name, **body}


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
        if fields.get("version") != VERSION:
            raise RecipeError(f"{name}: version is {fields.get('version')!r}; this release reads {VERSION}")
        groups = fields.get("groups")
        if not isinstance(groups, list) or not groups:
            raise RecipeError(f"{name}: 'groups' must be a non-empty list of {{targets, scheme}}")
        edge = fields.get("keep_edge_blocks", 0.0)
        if isinstance(edge, bool) or not isinstance(edge, int | float) or not 0 <= edge <= 0.5:
            raise RecipeError(f"{name}: keep_edge_blocks is a share of the blocks from 0 to 0.5, got {edge!r}")
        components = fields.get("components")
        return cls(
            groups=tuple(_group(group, f"{name}: groups[{i}]") for i, group in enumerate(groups)),
            summary=typed(fields.get("summary", ""), str, f"{name}: summary"),
            components=None if components is None else strings(components, f"{name}: components"),
            ignore=tuple(
                check_pattern(pattern, f"{name}: ignore[{i}]")
                for i, pattern in enumerate(typed(fields.get("ignore", []), list, f"{name}: ignore"))
            ),
            keep_edge_blocks=float(edge),
            keep_budget=_keep_budget(fields.get("keep_budget"), name),
            calibration=_calibration(fields.get("calibration", {}), f"{name}: calibration"),
            name=name,
        )

    @classmethod
    def from_yaml(cls, text: str, name: str = "recipe") -> Recipe:
        """Parses YAML text. Raises RecipeError with the line where the text is not YAML."""
        import yaml

        try:
            body = yaml.load(text, Loader=strict_loader())  # a subclass of SafeLoader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}:" if mark is not None else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise RecipeError(f"{name}:{line} not valid YAML: {problem}") from None
        return cls.from_dict(body, name)

    @classmethod
    def from_file(cls, path: str | Path) -> Recipe:
        """Reads a YAML file. Raises RecipeError where it cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from None
        return cls.from_yaml(text, str(path))


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


def _group(value: object, where: str) -> Group:
    fields = mapping(value, where, ("targets", "scheme", "algorithm", "sparsity", "misfits"))
    sparsity = _sparsity(fields.get("sparsity"), f"{where}.sparsity")
    for key in ("targets", "scheme"):
        if key not in fields and not (key == "scheme" and sparsity is not None):
            raise RecipeError(f"{where}: '{key}' is missing")
    targets = strings(fields["targets"], f"{where}.targets")
    spelled = fields.get("scheme", UNQUANTIZED)
    if not isinstance(spelled, str | Mapping):
        raise RecipeError(f"{where}.scheme: must be a name or a mapping, got {spelled!r}")
    algorithm = None
    if fields.get("algorithm") is not None:
        body = fields["algorithm"]
        body = {"name": body} if isinstance(body, str) else typed(body, dict, f"{where}.algorithm")
        options = dict(body)
        name = typed(options.pop("name", None), str, f"{where}.algorithm.name")
        algorithm = Algorithm(name, tuple(sorted((str(key), option) for key, option in options.items())))
    scheme = Scheme.parse(spelled, f"{where}.scheme")
    if scheme.weights is None and sparsity is None:
        raise RecipeError(f"{where}.scheme: {UNQUANTIZED} does nothing without sparsity; use 'ignore' to keep layers")
    if not runs_sparse(LayerForm(scheme, sparse=sparsity is not None)):
        raise RecipeError(f"{where}.sparsity: no op runs {SPARSITY} with {scheme.name}; use an 8-bit one, or none")
    misfits = fields.get("misfits", MISFITS[0])
    if misfits not in MISFITS:
        raise RecipeError(f"{where}.misfits: must be {' or '.join(MISFITS)}, got {misfits!r}")
    return Group(
        targets=tuple(check_pattern(pattern, f"{where}.targets[{i}]") for i, pattern in enumerate(targets)),
        scheme=scheme,
        algorithm=algorithm,
        sparsity=sparsity,
        misfits=misfits,
        spelled=spelled,
    )


def _sparsity(value: object, where: str) -> Sparsity | None:
    if value is None:
        return None
    fields = mapping(value, where, ("structure", "method"))
    structure, method = fields.get("structure", SPARSITY), fields.get("method")
    if structure != SPARSITY:
        raise RecipeError(f"{where}.structure: must be '{SPARSITY}', got {structure!r}")
    if method not in SPARSITY_METHODS:
        raise RecipeError(f"{where}.method: must be one of {', '.join(SPARSITY_METHODS)}, got {method!r}")
    return Sparsity(method)


def _calibration(value: object, where: str) -> Calibration:
    fields = mapping(value, where, ("samples", "steps", "seed", "rows", "hessian_gb", "timestep_weights"))
    budget = fields.get("hessian_gb", Calibration.hessian_gb)
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise RecipeError(f"{where}.hessian_gb: must be a number above 0, got {budget!r}")
    for key, number in fields.items():
        if key in ("hessian_gb", "timestep_weights"):
            continue
        least = 0 if key == "seed" else 1
        if key == "steps" and number is None:
            continue
        check_count(number, least, f"{where}.{key}")
    weights = _weights(fields.get("timestep_weights", []), f"{where}.timestep_weights")
    return Calibration(**{**fields, "timestep_weights": weights})


def _weights(value: object, where: str) -> tuple[float, ...]:
    numbers: list[Any] = value if isinstance(value, list) else [None]
    valid = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < math.inf for n in numbers)
    if not valid or (numbers and not any(numbers)):
        raise RecipeError(f"{where}: must be a list of numbers of at least 0, not all 0, got {value!r}")
    return tuple(float(number) for number in numbers)


def _keep_budget(value: object, name: str) -> KeepBudget | None:
    if value is None:
        return None
    fields = dict(mapping(value, f"{name}: keep_budget", ("share", "scheme", "runs", "steps")))
    if "share" not in fields:
        raise RecipeError(f"{name}: keep_budget: 'share' is missing")
    if "scheme" in fields:
        fields["scheme"] = Scheme.parse(typed(fields["scheme"], str, f"{name}: keep_budget.scheme"), name)
    try:
        return KeepBudget(**fields)
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
