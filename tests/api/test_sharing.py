"""Calibrations that several processes would each do whole are refused before the processes meet."""

from __future__ import annotations

from pathlib import Path

import pytest

import quant
from quant.calibration.ranks import Ranks
from quant.errors import CalibrationError
from tests.tiny_pipeline import PROMPTS


@pytest.mark.parametrize(("recipe", "prompts"), [("fp8-dynamic", None), ("w4a16-gptq", PROMPTS)])
def test_what_is_not_on_given_calls_alone_is_refused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, prompts: list[str] | None
) -> None:
    def joined(ranks: Ranks) -> None:
        raise AssertionError("it waits for the others")

    monkeypatch.setattr(Ranks, "joined", joined)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(CalibrationError, match=f"{recipe}: 2 processes share recorded calls alone; give --calls DIR"):
        quant.calibrate(model_folder, recipe, tmp_path / "out", prompts=prompts, progress=False)
    assert not any(tmp_path.iterdir())
