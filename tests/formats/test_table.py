"""Which format a weight is in, and the groups of columns that fit it."""

from __future__ import annotations

import pytest

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.table import adapted, misfit


@pytest.mark.parametrize(
    ("name", "k", "fits"),
    [
        ("W4A16", 320, "W4A16_G64"),
        ("W4A16_ASYM", 64, "W4A16_ASYM_G64"),
        ("W4AFP8", 96, "W4AFP8_G32"),
        ("W8A16", 32, "W8A16_G32"),
        ("W4A8", 16, None),
        ("W4A8", 0, None),
        ("W8A8", 320, None),
        ("FP8_BLOCK", 320, None),
    ],
)
def test_the_largest_smaller_groups_that_fit(name: str, k: int, fits: str | None) -> None:
    found = adapted(LayerFormat(SCHEMES[name]), 8, k)
    assert (None if found is None else found.scheme.name) == fits
    assert found is None or misfit(found, 8, k) is None


def test_what_is_not_about_groups_cannot_be_adapted() -> None:
    assert adapted(LayerFormat(SCHEMES["UNQUANTIZED"], sparse=True), 8, 6) is None
    assert adapted(LayerFormat(SCHEMES["W4A16"], rank=8), 8, 320) is None  # the branch is as large as the weight
