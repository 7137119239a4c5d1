"""The parts of a recipe: what a group of layers becomes, how statistics are gathered, what is kept beyond that.

Frozen and checked when made or read, each error with its place in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from quant.errors import RecipeError
from quant.fields import MOST_SEED, check_count, is_number, mapping, strings, typed
from quant.formats.layer import MOST_BINS, SPARSITY, LayerFormat
from quant.formats.scheme import UNQUANTIZED, Scheme
from quant.patterns import check_pattern, is_role
from quant.text import shown

REFUSE, KEEP, ADAPT, NEXT = "refuse", "keep", "adapt", "next"
MISFITS = (REFUSE, KEEP, ADAPT, NEXT)
#: What a layer's inputs are taken from: the model as it is, or with the blocks before compressed already.
ORIGINAL, COMPRESSED = "original", "compressed"


@dataclass(frozen=True)
class Algorithm:
    """An algorithm's name and its options, as in `{name: smoothquant, alpha: search}`."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **dict(self.options)}


@dataclass(frozen=True)
class Sparsity:
    """Zeros in a weight: two of every four neighbouring columns, chosen by `method`."""

    method: str
    structure: str = SPARSITY

    def to_dict(self) -> dict[str, Any]:
        return {"structure": self.structure, "method": self.method}


@dataclass(frozen=True)
class StepShares:
    """The shares of the denoising steps, at both ends of the schedule, at which inputs are not quantized.

    Attributes:
        first, last: from 0 to below 1. Each is rounded to whole steps, and one above 0 to one step at least.

    Raises:
        RecipeError: a share that is none, or shares that leave no step.
    """

    first: float = 0.0
    last: float = 0.0

    def __post_init__(self) -> None:
        for key in ("first", "last"):
            share = getattr(self, key)
            if not is_number(share) or not 0 <= share < 1:
                raise RecipeError(f"{key}: must be a share of the steps from 0 to below 1, got {shown(share)}")
        if not 0 < self.first + self.last < 1:
            raise RecipeError("first and last: must leave some steps, and not both be 0")

    def to_dict(self) -> dict[str, Any]:
        return {key: share for key in ("first", "last") if (share := getattr(self, key))}


@dataclass(frozen=True)
class Group:
    """Layers that are quantized alike. The first group of a recipe that matches a layer wins.

    Attributes:
        targets: patterns of layers.
        scheme: formats of weight and input.
        algorithm: how scales and codes are found; None rounds to nearest.
        sparsity: 2:4, or None.
        misfits: what becomes of a layer whose shape does not fit the scheme: "refuse" is an error that names it,
            "keep" leaves it as it is, "adapt" gives it the largest smaller groups of columns that fit and keeps it
            where none do, "next" leaves it to the next group that targets it, and keeps it where there is none.
        bins: into how many the noise schedule is cut at most, each with a range of its own of static inputs; 1 for one
            range. There are no more than timesteps that calibration saw.
        steps: the denoising steps at which inputs are not quantized; None for none.
        spelled: the scheme as the recipe wrote it.
    """

    targets: tuple[str, ...]
    scheme: Scheme
    algorithm: Algorithm | None = None
    sparsity: Sparsity | None = None
    misfits: str = REFUSE
    bins: int = 1
    steps: StepShares | None = None
    spelled: str | Mapping[str, Any] = ""

    @property
    def layer_format(self) -> LayerFormat:
        """What the group's layers are stored as, before anything is known of smoothing."""
        return LayerFormat(self.scheme, sparse=self.sparsity is not None)

    @property
    def is_by_role(self) -> bool:
        """True where its targets are roles alone, of which a model may have no layer."""
        return all(map(is_role, self.targets))

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"targets": list(self.targets), "scheme": self.spelled or self.scheme.name}
        if self.algorithm is not None:
            body["algorithm"] = self.algorithm.to_dict()
        if self.sparsity is not None:
            body["sparsity"] = self.sparsity.to_dict()
        if self.misfits != REFUSE:
            body["misfits"] = self.misfits
        if self.bins > 1:
            body["bins"] = self.bins
        if self.steps is not None:
            body["steps"] = self.steps.to_dict()
        return body


@dataclass(frozen=True)
class Calibration:
    """How statistics are gathered.

    Attributes:
        samples: how many prompts are run; a prompt file with fewer is run whole, with a note; where
            the user asked for so many it is refused.
        steps: denoising steps; None takes the pipeline's own setting, because ranges differ between a few-step
            and a many-step schedule.
        seed: seed of the initial latents, one generator per prompt.
        rows: input rows kept per layer for algorithms that compare outputs, drawn evenly from all timesteps.
        hessian_gb: 10^9 bytes that the Hessians of one pass over the prompts may take; more layers are more passes.
        timestep_weights: what an input counts in Hessians, one number for each of as many equal parts of the noise
            schedule, the noisiest first; empty counts all alike.
        inputs: "original" takes every layer's inputs from the model as it is; "compressed", of recorded calls, from one
            in which all blocks before are compressed already, so that each block sees the inputs that it will get.

    Raises:
        RecipeError: a number that is out of range or of another type.
    """

    samples: int = 32
    steps: int | None = None
    seed: int = 0
    rows: int = 512
    hessian_gb: float = 8.0
    timestep_weights: tuple[float, ...] = ()
    inputs: str = ORIGINAL

    def __post_init__(self) -> None:
        check_count(self.seed, 0, "calibration.seed", MOST_SEED)
        for key in ("samples", "rows") if self.steps is None else ("samples", "rows", "steps"):
            check_count(getattr(self, key), 1, f"calibration.{key}")
        if not is_number(self.hessian_gb) or self.hessian_gb <= 0:
            raise RecipeError(f"calibration.hessian_gb: must be a number above 0, got {shown(self.hessian_gb)}")
        weights = self.timestep_weights
        if not all(is_number(n) and n >= 0 for n in weights) or (weights and not any(weights)):
            what = "must be a list of numbers of at least 0, not all 0"
            raise RecipeError(f"calibration.timestep_weights: {what}, got {shown(weights)}")
        if self.inputs not in (ORIGINAL, COMPRESSED):
            raise RecipeError(f"calibration.inputs: must be {ORIGINAL} or {COMPRESSED}, got {shown(self.inputs)}")

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"samples": self.samples, "steps": self.steps, "seed": self.seed, "rows": self.rows}
        if self.hessian_gb != Calibration.hessian_gb:
            body["hessian_gb"] = self.hessian_gb
        if self.timestep_weights:
            body["timestep_weights"] = list(self.timestep_weights)
        if self.inputs != ORIGINAL:
            body["inputs"] = self.inputs
        return body


@dataclass(frozen=True)
class KeepBudget:
    """How much a checkpoint may grow so that its most sensitive layers stay in higher precision.

    Calibration then measures each layer's sensitivity, and the recipe that it writes names the chosen layers instead.

    Attributes:
        share: of the bytes that the quantized components take without this, above 0 and up to 1.
        scheme: what those layers become; None leaves them as they are. One that needs no data.
        runs: how many prompts are run to measure, and `steps`, how many denoising steps of each are measured.
    """

    share: float
    scheme: Scheme | None = None
    runs: int = 4
    steps: int = 5

    def __post_init__(self) -> None:
        if not is_number(self.share) or not 0 < self.share <= 1:
            raise RecipeError(
                f"keep_budget.share: must be a share above 0, up to 1, such as 0.05 for 5%, got {shown(self.share)}"
            )
        if self.scheme is not None and (self.scheme.weights is None or self.scheme.has_static_input):
            raise RecipeError(f"keep_budget.scheme: {self.scheme.name} is not a scheme that needs no data")
        for key in ("runs", "steps"):
            check_count(getattr(self, key), 1, f"keep_budget.{key}")

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"share": self.share, "runs": self.runs, "steps": self.steps}
        return body if self.scheme is None else {"share": self.share, "scheme": self.scheme.name, **body}


def read_group(value: object, where: str) -> Group:
    fields = mapping(value, where, ("targets", "scheme", "algorithm", "sparsity", "misfits", "bins", "steps"))
    sparsity = _sparsity(fields.get("sparsity"), f"{where}.sparsity")
    for key in ("targets", "scheme"):
        if key not in fields and not (key == "scheme" and sparsity is not None):
            raise RecipeError(f"{where}: '{key}' is missing")
    targets = strings(fields["targets"], f"{where}.targets")
    spelled = fields.get("scheme", UNQUANTIZED)
    if not isinstance(spelled, str | Mapping):
        raise RecipeError(f"{where}.scheme: must be a name or a mapping, got {shown(spelled)}")
    algorithm = None
    if fields.get("algorithm") is not None:
        body = fields["algorithm"]
        body = {"name": body} if isinstance(body, str) else typed(body, dict, f"{where}.algorithm")
        options = dict(body)
        name = typed(options.pop("name", None), str, f"{where}.algorithm.name")
        wrong = next((key for key, option in options.items() if not isinstance(option, str | bool | int | float)), None)
        if wrong is not None:
            raise RecipeError(f"{where}.algorithm.{wrong}: must be a number, a word, true or false")
        algorithm = Algorithm(name, tuple(sorted((str(key), option) for key, option in options.items())))
    scheme = Scheme.parse(spelled, f"{where}.scheme")
    if scheme.weights is None and sparsity is None:
        raise RecipeError(f"{where}.scheme: {UNQUANTIZED} does nothing without sparsity; use 'ignore' to keep layers")
    if sparsity is not None:
        from quant.formats.table import unrunnable  # here, so that recipes of dense weights need no torch

        reason = unrunnable(LayerFormat(scheme, sparse=True))
        if reason is not None:
            raise RecipeError(f"{where}.sparsity: {reason}; use an 8-bit one, or none")
    misfits = fields.get("misfits", REFUSE)
    if misfits not in MISFITS:
        raise RecipeError(f"{where}.misfits: must be one of {', '.join(MISFITS)}, got {shown(misfits)}")
    bins = fields.get("bins", 1)
    check_count(bins, 1, f"{where}.bins", MOST_BINS)
    return Group(
        targets=tuple(check_pattern(pattern, f"{where}.targets[{i}]") for i, pattern in enumerate(targets)),
        scheme=scheme,
        algorithm=algorithm,
        sparsity=sparsity,
        misfits=misfits,
        bins=bins,
        steps=_steps(fields.get("steps"), f"{where}.steps"),
        spelled=spelled,
    )


def _steps(value: object, where: str) -> StepShares | None:
    if value is None:
        return None
    fields = mapping(value, where, ("first", "last"))
    try:
        return StepShares(**fields)
    except RecipeError as error:
        raise RecipeError(f"{where}.{error}") from None


def _sparsity(value: object, where: str) -> Sparsity | None:
    if value is None:
        return None
    fields = mapping(value, where, ("structure", "method"))
    structure, method = fields.get("structure", SPARSITY), fields.get("method")
    if structure != SPARSITY:
        raise RecipeError(f"{where}.structure: must be '{SPARSITY}', got {shown(structure)}")
    return Sparsity(str(method))  # which the table of methods knows or refuses


def read_calibration(value: object, where: str) -> Calibration:
    fields = dict(
        mapping(value, where, ("samples", "steps", "seed", "rows", "hessian_gb", "timestep_weights", "inputs"))
    )
    weights = fields.get("timestep_weights", [])
    if not isinstance(weights, list):
        raise RecipeError(f"{where}.timestep_weights: must be a list of numbers, got {shown(weights)}")
    try:
        found = Calibration(**{**fields, "timestep_weights": tuple(weights)})
    except RecipeError as error:
        raise RecipeError(f"{where.removesuffix('calibration')}{error}") from None
    return replace(found, timestep_weights=tuple(map(float, weights)))


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
