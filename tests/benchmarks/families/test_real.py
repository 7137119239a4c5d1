"""Shares and bytes at real size, against what can be counted by hand."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.families.real import coverage
from quant.recipe import Recipe


def model() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(256, 128), nn.Conv1d(8, 16, 3, bias=False), nn.LayerNorm(64))


def recipe(scheme: str, **group: object) -> Recipe:
    body = {"version": 1, "summary": "", "groups": [{"targets": ["Linear"], "scheme": scheme, **group}]}
    return Recipe.from_dict({**body, "ignore": ["Conv1d"]}, name="own")


def test_bytes_and_shares_are_those_of_the_layers() -> None:
    linear, conv, rest = 256 * 128, 8 * 16 * 3, 128 + 2 * 64
    found = coverage(model(), recipe("FP8_DYNAMIC"))
    total = linear + conv + rest
    assert found["layers"] == found["inputs"] == 1
    assert found["quantized"] == round(linear / total, 4)
    # One byte a weight and one float32 scale a row; all else two bytes a number.
    assert found["bytes"] == round((linear + 4 * 128 + 2 * (conv + rest)) / (2 * total), 4)
    assert found["sparse"] == 0
    (kept,) = found["kept"]
    assert (kept["layers"], kept["share"]) == (1, round(conv / total, 4))


def test_what_is_sparse_is_counted() -> None:
    found = coverage(model(), recipe("FP8_DYNAMIC", sparsity={"structure": "2:4", "method": "magnitude"}))
    assert found["sparse"] == found["quantized"] > 0


def test_a_recipe_that_is_refused_says_why() -> None:
    with torch.device("meta"):
        narrow = nn.Sequential(nn.Linear(24, 16))
    found = coverage(narrow, Recipe.from_dict({**recipe("W4A16").to_dict(), "ignore": []}, name="own"))
    assert list(found) == ["reason"]
    assert "24" in found["reason"]
