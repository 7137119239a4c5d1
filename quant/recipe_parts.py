"""The parts of a recipe: what a group of layers becomes, how statistics are gathered, what is kept beyond that.

Frozen and checked when made or read, each error with its place in the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant.errors import RecipeError
from quant.fields import check_count, mapping, strings, typed
from quant.form import SPARSITY, LayerForm, runs_sparse
from quant.patterns import check_pattern
from quant.scheme import UNQUANTIZED, Scheme

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


def read_group(value: object, where: str) -> Group:
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


def read_calibration(value: object, where: str) -> Calibration:
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


def read_keep_budget(value: object, name: str) -> KeepBudget | None:
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
