"""How many prompts a calibration runs, and what it says where there are fewer than it would take."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from quant.calibration.preparing import calibration_prompts
from quant.errors import CalibrationError, QuantWarning
from quant.recipe import Recipe

STATIC = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "FP8"}]}, "mine")


def test_fewer_prompts_than_a_recipe_would_take_are_a_note_and_fewer_than_asked_for_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one\ntwo\n")
    with pytest.warns(QuantWarning) as noted:
        assert calibration_prompts(STATIC, path) == ["one", "two"]
    assert [str(each.message) for each in noted] == [
        f"{path}: 2 prompts, mine would take 32: calibrated on these alone"
    ]
    with pytest.raises(CalibrationError, match=r"p\.txt: 2 prompts, 32 samples were asked for: take fewer --samples"):
        calibration_prompts(STATIC, path, asked=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calibration_prompts(STATIC, ["one"], asked=True) == ["one"]
        path.write_text("a prompt\n" * 32)
        assert len(calibration_prompts(STATIC, path, asked=True)) == 32
