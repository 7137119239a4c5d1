"""One layer under every algorithm and method: on its grid, with its zeros, and no worse than without data."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.algorithms import stages
from quant.algorithms.gptq import output_error
from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.pruning import PRUNINGS
from quant.algorithms.stages import compress, compress_together, compresses, round_smoothed
from quant.formats.grid import grid_of
from quant.formats.tensors import pack_linear, unpack_linear
from quant.kernels.layouts.sparse24 import is_24
from quant.recipe import Recipe
from quant.recipe_parts import Group

N, K, ROWS = 24, 128, 400
METHODS = tuple(each.name for each in PRUNINGS)


def group(**fields: Any) -> Group:
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], **fields}]})
    return recipe.groups[0]


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def hessian() -> torch.Tensor:
    """Of inputs that depend on each other, as a layer's do."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(ROWS, 16, generator=generator) @ torch.randn(16, K, generator=generator)
    x += 0.3 * torch.randn(ROWS, K, generator=generator)
    return x.double().T @ x.double() / ROWS


def stored(weight: torch.Tensor, of: Group, hessian: torch.Tensor | None) -> torch.Tensor:
    """The weight that the checkpoint's tensors mean."""
    made = compress(weight, of, hessian)
    tensors = pack_linear(made.weight, of.layer_format, grid=made.grid, low_rank=made.branch)
    return unpack_linear(tensors, of.layer_format)


@pytest.mark.parametrize("scheme", ["W4A16", "W4A16_ASYM", "W4A8", "W4AFP8", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK"])
@pytest.mark.parametrize("algorithm", [{"name": "gptq"}, {"name": "gptq", "clip": True}, {"name": "mse"}])
def test_an_algorithm_is_better_than_rounding_to_nearest(
    weight: torch.Tensor, hessian: torch.Tensor, scheme: str, algorithm: dict[str, Any]
) -> None:
    of = group(scheme=scheme, algorithm=algorithm)
    plain = unpack_linear(pack_linear(weight, of.layer_format), of.layer_format)
    error = output_error(stored(weight, of, hessian) - weight, hessian)
    at_most = 1.0 if algorithm["name"] == "mse" else 0.8
    assert error <= at_most * output_error(plain - weight, hessian) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("scheme", "sparsity"),
    [
        *((scheme, None) for scheme in ("W4A16", "W4A16_ASYM", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK")),
        *((scheme, {"method": method}) for scheme in ("W8A8", "FP8_DYNAMIC") for method in ("magnitude", "search")),
    ],
)
def test_refining_only_gains(
    weight: torch.Tensor, hessian: torch.Tensor, scheme: str, sparsity: dict[str, Any] | None
) -> None:
    plain, refined = (
        group(scheme=scheme, algorithm={"name": "gptq", "refine": refine}, sparsity=sparsity)
        for refine in (False, True)
    )
    before = output_error(stored(weight, plain, hessian) - weight, hessian)
    after = output_error(stored(weight, refined, hessian) - weight, hessian)
    # With the mask's own target, what survives may be nearer to it and not to the weight.
    slack = 1.02 if sparsity == {"method": "search"} else 1 + 1e-6
    assert after <= before * slack
    if sparsity is None and scheme == "W4A16":
        assert after < 0.97 * before


def test_what_is_packed_is_what_was_found(weight: torch.Tensor, hessian: torch.Tensor) -> None:
    of = group(scheme="W4A16", algorithm="gptq")
    made = compress(weight, of, hessian)
    assert made.grid is not None
    assert torch.equal(stored(weight, of, hessian), made.weight)
    expected = (output_error(made.weight - weight, hessian) / output_error(weight, hessian)).sqrt()
    assert made.notes["output_error"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["UNQUANTIZED", "FP8_DYNAMIC", "W8A8"])
@pytest.mark.parametrize("algorithm", [None, "gptq"])
def test_a_sparse_weight_is_24_and_no_worse_than_by_magnitude(
    weight: torch.Tensor, hessian: torch.Tensor, method: str, scheme: str, algorithm: str | None
) -> None:
    if scheme == "UNQUANTIZED" and algorithm is not None:
        algorithm = None
    sparsity = {"structure": "2:4", "method": method}
    of = group(scheme=scheme, sparsity=sparsity, algorithm=algorithm)
    found = stored(weight, of, hessian)
    assert is_24(found)
    assert (found != 0).sum() > 0.45 * found.numel()  # not more zeros than that: of codes some are 0 by rounding
    plain = stored(weight, group(scheme=scheme, sparsity={"method": "magnitude"}), None)
    assert output_error(found - weight, hessian) <= output_error(plain - weight, hessian) * 1.001


def test_methods_in_the_order_of_what_they_know(weight: torch.Tensor, hessian: torch.Tensor) -> None:
    errors = [
        float(output_error(stored(weight, group(sparsity={"method": method}), hessian) - weight, hessian))
        for method in METHODS
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_a_branch_takes_what_rounding_leaves(weight: torch.Tensor, hessian: torch.Tensor) -> None:
    of = group(scheme="W4A16", algorithm={"name": "svdquant", "rank": 8})
    made = compress(weight, of, hessian)
    assert made.branch is not None and made.grid is not None
    assert (made.branch.up.shape, made.branch.down.shape) == ((N, 8), (8, K))
    assert torch.equal(made.grid.values(made.grid.codes(made.weight)), made.weight)
    without = stored(weight, group(scheme="W4A16", algorithm="gptq"), hessian)
    assert output_error(stored(weight, of, hessian) - weight, hessian) < 0.7 * output_error(without - weight, hessian)


def test_without_data_only_the_weight_decides(weight: torch.Tensor) -> None:
    of = group(scheme="W8A8", sparsity={"method": "magnitude"})
    assert compresses(of)
    made = compress(weight, of, None)
    assert made.grid is None and made.branch is None and made.notes == {}
    assert not compresses(group(scheme="W8A8"))
    assert not compresses(group(scheme="W8A8", algorithm="smoothquant"))
    assert torch.equal(made.weight[made.weight != 0], weight[made.weight != 0])
    assert of.scheme.weights is not None
    assert grid_of(made.weight, of.scheme.weights).scale.shape == (N, 1)


@pytest.mark.parametrize("scheme", ["W8A8", "FP8_DYNAMIC"])
def test_a_smoothed_weight_rounded_by_gptq_is_better_than_rounded_to_nearest(
    weight: torch.Tensor, hessian: torch.Tensor, scheme: str
) -> None:
    of = group(scheme=scheme, algorithm={"name": "smoothquant", "rounding": "gptq"})
    factor = torch.rand(K, generator=torch.Generator().manual_seed(3)) * 4 + 0.25
    made = round_smoothed(weight, of, hessian, factor)
    assert made is not None
    tensors = pack_linear(made.weight, of.layer_format, grid=made.grid, pre_quant_scale=factor)
    # What is packed is what was found, although dividing and multiplying by the factor is not exact.
    assert torch.allclose(unpack_linear(tensors, of.layer_format), made.weight, rtol=1e-5, atol=0)
    plain = unpack_linear(pack_linear(weight, of.layer_format, pre_quant_scale=factor), of.layer_format)
    error = output_error(unpack_linear(tensors, of.layer_format) - weight, hessian)
    assert error < 0.8 * output_error(plain - weight, hessian)


def test_without_a_factor_a_smoothed_weight_is_rounded_as_it_is(weight: torch.Tensor, hessian: torch.Tensor) -> None:
    smoothed = group(scheme="W8A8", algorithm={"name": "smoothquant", "rounding": "gptq"})
    plain = compress(weight, group(scheme="W8A8", algorithm="gptq"), hessian)
    made = round_smoothed(weight, smoothed, hessian, None)
    assert made is not None
    assert torch.equal(made.weight, plain.weight)


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "W4A16", "algorithm": {"name": "gptq", "clip": True, "refine": True}},
        {"scheme": "W4A16_ASYM", "algorithm": "gptq"},
        {"scheme": "FP8_BLOCK", "algorithm": "mse"},
        {"scheme": "W4A16", "algorithm": {"name": "svdquant", "rank": 4}},
        *({"sparsity": {"method": method}} for method in METHODS),
        {"scheme": "FP8_DYNAMIC", "sparsity": {"method": "search"}, "algorithm": "gptq"},
    ],
)
def test_every_tensor_is_made_where_the_weight_is(
    weight: torch.Tensor, hessian: torch.Tensor, fields: dict[str, Any]
) -> None:
    """A tensor made without saying where would be on the meta device here, and could meet none of the others."""
    of = group(**fields)
    expected = compress(weight, of, hessian)
    with torch.device("meta"):
        found = compress(weight, of, hessian)
    assert torch.equal(found.weight, expected.weight)


def test_smoothed_rounding_makes_every_tensor_where_the_weight_is(weight: torch.Tensor, hessian: torch.Tensor) -> None:
    of = group(scheme="W8A8", algorithm={"name": "smoothquant", "rounding": "gptq"})
    for factor in (None, torch.full((K,), 0.5)):
        expected = round_smoothed(weight, of, hessian, factor)
        with torch.device("meta"):
            found = round_smoothed(weight, of, hessian, factor)
        assert found is not None and expected is not None
        assert torch.equal(found.weight, expected.weight)


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "W4A16", "algorithm": {"name": "gptq", "clip": True, "refine": True}},
        {"scheme": "FP8_BLOCK", "algorithm": "mse"},
        {"scheme": "W4A16", "algorithm": {"name": "svdquant", "rank": 4}},
        {"scheme": "W8A8", "sparsity": {"method": "search"}, "algorithm": "gptq"},
        {"sparsity": {"method": "sparsegpt"}},
    ],
)
def test_layers_of_one_input_are_solved_together_as_each_alone(
    monkeypatch: pytest.MonkeyPatch, weight: torch.Tensor, hessian: torch.Tensor, fields: dict[str, Any]
) -> None:
    of, weights = group(**fields), [weight, weight.flip(0)[:7], -weight[3:]]
    counted: list[str] = []
    for name in ("cholesky_ex", "eigh"):
        monkeypatch.setattr(torch.linalg, name, _counting(name, getattr(torch.linalg, name), counted))
    alone = [compress(each, of, hessian) for each in weights]
    of_three = sorted(counted)
    counted.clear()
    monkeypatch.setattr(stages, "_TOGETHER", 31 * K)  # the first two at once
    for found, expected in zip(compress_together(weights, of, InputHessian(hessian)), alone, strict=True):
        torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-5)
        assert found.notes["output_error"] == pytest.approx(expected.notes["output_error"], rel=1e-4)
    assert sorted(counted * 3) == of_three  # what is dear is found once, and not for each layer
    assert counted


def _counting(name: str, function: Any, counted: list[str]) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        counted.append(name)
        return function(*args, **options)

    return call
