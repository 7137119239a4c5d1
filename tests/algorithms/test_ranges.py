"""Ranges against NumPy's percentile and ModelOpt's histogram calibrator, on data small enough for it to count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import quant
from quant.algorithms.clipping import clipped_grid
from quant.algorithms.ranges import SHRINKS, mse_range, percentile_range
from quant.formats.grid import grid_of
from quant.formats.scheme import SCHEMES
from quant.kernels.numerics import encode, scale_from_amax


@pytest.fixture
def rows() -> torch.Tensor:
    """Mostly small, with a few values far out, as activations are."""
    values = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    values[:3, :5] *= 40
    return values


def error(rows: torch.Tensor, amax: torch.Tensor, dtype: torch.dtype) -> float:
    scale = scale_from_amax(amax, dtype)
    return float((encode(rows, scale, dtype).float() * scale - rows).square().sum())


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99, 100.0])
def test_a_percentile_is_numpys_and_modelopts(rows: torch.Tensor, percentile: float) -> None:
    from modelopt.torch.quantization.calib import HistogramCalibrator

    found = percentile_range(rows, percentile)
    assert found.shape == (1,) and found.dtype == torch.float32
    values = rows.abs().numpy().ravel()
    low, high = (np.percentile(values, percentile, method=method) for method in ("lower", "higher"))
    assert low * 0.999 <= found.item() <= high * 1.001
    calibrator = HistogramCalibrator(8, None, False)
    calibrator.collect(rows)
    theirs = float(calibrator.compute_amax("percentile", percentile=percentile))
    width = float(rows.abs().max()) / 2048
    # A histogram knows a value by its bin, and this sample's gaps far out are wider than a bin.
    assert low - 2 * width <= theirs <= high + 2 * width


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_the_least_error_is_no_larger_than_that_of_the_largest_value_or_modelopts(
    rows: torch.Tensor, dtype: torch.dtype
) -> None:
    from modelopt.torch.quantization.calib import HistogramCalibrator

    amax = rows.abs().amax().reshape(1)
    found = mse_range(rows, amax, dtype)
    assert error(rows, found, dtype) == min(error(rows, amax * shrink, dtype) for shrink in SHRINKS)
    assert error(rows, found, dtype) <= error(rows, amax, dtype)
    if dtype == torch.int8:
        calibrator = HistogramCalibrator(8, None, False)
        calibrator.collect(rows)
        theirs = calibrator.compute_amax("mse").reshape(1)
        assert error(rows, found, dtype) <= 1.02 * error(rows, theirs, dtype)
        assert found < amax


@pytest.mark.parametrize(("algorithm", "shorter"), [("max", False), ("percentile", True), ("mse", True)])
def test_a_model_gets_the_range_that_its_recipe_names(rows: torch.Tensor, algorithm: str, shorter: bool) -> None:
    scheme = {
        "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
        "input_activations": {"num_bits": 8, "type": "int", "strategy": "tensor", "dynamic": False},
    }
    group = {"targets": ["Linear"], "scheme": scheme, "algorithm": algorithm}
    model = nn.Sequential(nn.Linear(64, 8))
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [group]})
    made = quant.quantize(model, recipe, forward_loop=lambda m: m(rows))
    largest = float(rows.abs().max()) / 127
    assert (made[0].input_scale.item() < 0.999 * largest) == shorter


def test_ranges_of_weights_without_data() -> None:
    """Each group's scale is the search's where all errors count alike, and nothing is run."""
    torch.manual_seed(0)
    linear = nn.Linear(256, 8)
    group = {"targets": ["Linear"], "scheme": "W4A16", "algorithm": {"name": "mse", "importance": "none"}}
    made = quant.quantize(nn.Sequential(linear), quant.Recipe.from_dict({"version": 1, "groups": [group]}))
    weights = SCHEMES["W4A16"].weights
    assert weights is not None
    grid = clipped_grid(linear.weight.detach(), weights)
    assert torch.equal(made[0].weight_scale.float(), grid.scale)
    assert (grid.scale < grid_of(linear.weight.detach(), weights).scale).any()


def test_an_importance_is_one_of_two() -> None:
    group = {"targets": ["Linear"], "scheme": "W4A16", "algorithm": {"name": "mse", "importance": "some"}}
    with pytest.raises(quant.QuantError, match=r"algorithm\.importance: must be inputs or none, got 'some'"):
        quant.Recipe.from_dict({"version": 1, "groups": [group]})
    group["algorithm"] = {"name": "mse", "importance": "inputs"}
    with pytest.raises(quant.QuantError, match="needs calibration data"):
        quant.quantize(nn.Sequential(nn.Linear(256, 8)), quant.Recipe.from_dict({"version": 1, "groups": [group]}))
