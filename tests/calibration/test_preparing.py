"""How many prompts a calibration runs, and what it says where there are fewer than it would take."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from quant.calibration.preparing import calibration_rows
from quant.errors import CalibrationError, QuantWarning
from quant.pipelines.arguments import Argument
from quant.pipelines.settings import GenerationSettings
from quant.recipe import Recipe

CALL = {"prompt": Argument("prompt", True, None, frozenset({str}))}
STATIC = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": "FP8"}]}, "mine")


def _texts(prompts: str | Path | list[str], *, asked: bool = False) -> list[str]:
    rows = calibration_rows(STATIC, prompts, None, CALL, "Pipe", GenerationSettings(), asked=asked)
    return [row.text for row in rows]


def test_fewer_prompts_than_a_recipe_would_take_are_a_note_and_fewer_than_asked_for_an_error(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("one\ntwo\n")
    with pytest.warns(QuantWarning) as noted:
        assert _texts(path) == ["one", "two"]
    assert [str(each.message) for each in noted] == [
        f"{path}: 2 prompts, mine would take 32: calibrated on these alone"
    ]
    with pytest.raises(CalibrationError, match=r"p\.txt: 2 prompts, 32 samples were asked for: take fewer --samples"):
        _texts(path, asked=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _texts(["one"], asked=True) == ["one"]
        path.write_text("a prompt\n" * 32)
        assert len(_texts(path, asked=True)) == 32
