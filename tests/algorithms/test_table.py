from __future__ import annotations

from typing import Any

import pytest

from quant.algorithms.base import Needs
from quant.algorithms.table import needs_of
from quant.errors import RecipeError
from quant.recipe import Recipe

DYNAMIC, STATIC = ("FP8_DYNAMIC", "W8A8"), ("FP8",)


def _recipe(scheme: str, algorithm: Any = None) -> Recipe:
    first = {"targets": ["re:a"], "scheme": "W8A8"}
    group = {"targets": ["Linear"], "scheme": scheme, "algorithm": algorithm}
    return Recipe.from_dict({"version": 1, "groups": [first, group]}, "r.yaml")


@pytest.mark.parametrize(
    ("scheme", "algorithm", "needs"),
    [
        *((scheme, None, Needs()) for scheme in DYNAMIC),
        *((scheme, "smoothquant", Needs(channel_amax=True, rows=True)) for scheme in DYNAMIC),
        *((scheme, name, Needs(amax=True)) for scheme in STATIC for name in (None, "max")),
        *((scheme, "percentile", Needs(amax=True, rows=True)) for scheme in STATIC),
        *((scheme, "mse", Needs(amax=True, rows=True, hessian=True)) for scheme in STATIC),
        *((scheme, "smoothquant", Needs(amax=True, channel_amax=True, rows=True)) for scheme in STATIC),
        ("W4A16", "awq", Needs(channel_mean=True, hessian=True)),
        *(("W4A16", name, Needs(hessian=True)) for name in ("gptq", "svdquant", "mse")),
        ("W8A8", {"name": "smoothquant", "rounding": "gptq"}, Needs(channel_amax=True, rows=True, hessian=True)),
        ("W8A8", {"name": "smoothquant", "rounding": "nearest"}, Needs(channel_amax=True, rows=True)),
    ],
)
def test_a_group_needs_what_its_scheme_and_algorithm_read(scheme: str, algorithm: Any, needs: Needs) -> None:
    recipe = _recipe(scheme, algorithm)
    assert needs_of(recipe.groups[1]) == needs


def test_needs_add_up() -> None:
    parts = [Needs(amax=True), Needs(channel_amax=True), Needs(rows=True)]
    for one in parts:
        assert one
        assert one | Needs() == Needs() | one == one | one == one
    assert parts[0] | parts[1] | parts[2] == Needs(amax=True, channel_amax=True, rows=True)
    assert not Needs()


@pytest.mark.parametrize(
    ("scheme", "algorithm", "message"),
    [
        ("W8A8", "gptp", "unknown algorithm 'gptp'; known: max, mse, percentile, smoothquant, awq, gptq, svdquant"),
        (
            "W8A8",
            {"name": "smoothquant", "alhpa": 0.5},
            "unknown option 'alhpa' of smoothquant; known: alpha, rounding",
        ),
        ("FP8", {"name": "max", "alpha": 0.5}, "unknown option 'alpha' of max; known: none"),
        ("W8A8", "max", "'max' finds static input scales, and W8A8 has dynamic ones"),
        ("FP8_DYNAMIC", "max", "'max' finds static input scales, and FP8_DYNAMIC has dynamic ones"),
        ("W8A8", {"name": "smoothquant", "alpha": 2}, "must be 'search' or a number above 0, up to 1, got 2"),
        ("W8A8", {"name": "smoothquant", "rounding": "up"}, "rounding: must be nearest or gptq, got 'up'"),
        ("W8A8", "percentile", "'percentile' finds static input scales, and W8A8 has dynamic ones"),
        ("FP8", {"name": "percentile", "percentile": 5}, "percentile: must be a number above 50, up to 100, got 5"),
        ("W8A8", "awq", "'awq' is for packed weights in groups, not for W8A8; use smoothquant"),
        ("W4A16", {"name": "gptq", "clip": 1}, "clip: must be true or false, got 1"),
        ("W4A16", {"name": "gptq", "damping": 0}, "damping: must be a number between 0 and 1, got 0"),
        ("W4A16", {"name": "svdquant", "rank": 0}, "rank: must be a whole number of at least 1, got 0"),
        ("W4A16", {"name": "mse", "clip": True}, "unknown option 'clip' of mse; known: importance"),
        ("FP8", {"name": "max", "clip": True}, "unknown option 'clip' of max; known: none"),
        ("W4A16", "smoothquant", "it is not for W4A16, whose inputs are not quantized"),
        ("W4A8", "smoothquant", "'smoothquant' is for a scale a row or tensor, not for W4A8"),
        ("W8A8", {"name": "smoothquant", "alpha": "auto"}, "must be 'search' or a number above 0, up to 1, got 'auto'"),
    ],
)
def test_an_algorithm_that_cannot_be_run_is_named_with_its_place(scheme: str, algorithm: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _recipe(scheme, algorithm)
    assert str(caught.value).startswith("r.yaml: groups[1].algorithm")
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("alpha", ["search", 0.5, 1])
def test_a_strength_of_smoothquant_is_taken(alpha: object) -> None:
    recipe = _recipe("FP8", {"name": "smoothquant", "alpha": alpha})
    assert needs_of(recipe.groups[1]).rows
