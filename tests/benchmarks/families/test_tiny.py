"""Every class of video denoisers is quantized, runs, and comes back from its checkpoint bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import quant
from benchmarks.families.__main__ import SHORT
from benchmarks.families.denoiser import Denoiser, outputs
from benchmarks.families.models import MODELS
from benchmarks.families.tiny import trial
from benchmarks.families.unets import UNETS

#: One model of each class.
CLASSES = {model.cls: model for model in reversed(MODELS)}
#: A U-Net has hundreds of layers: of those, one is calibrated. The seconds here are seconds of every `make test`.
CALIBRATED = [cls for cls in CLASSES if cls not in {model.cls for model in UNETS[1:]}]


#: Relative output error of FP8 on random weights. In a U-Net convolutions are quantized, too, and carry the main path.
LARGEST = {cls: 0.25 if cls in {model.cls for model in UNETS} else 0.1 for cls in CLASSES}

#: They hold layers that no forward pass reaches, of which calibration can know nothing.
NEVER_RUN = {"SanaWMTransformer3DModel", "SanaWMLTX2RefinerTransformer3DModel"}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_quantized_runs_and_loads(cls: str, tmp_path: Path) -> None:
    found = trial(CLASSES[cls], SHORT[0], tmp_path / "checkpoint")
    assert 0 < found.get("error", 0) < LARGEST[cls], found


@pytest.mark.parametrize("cls", CALIBRATED)
def test_every_class_is_calibrated(cls: str, tmp_path: Path) -> None:
    found = trial(CLASSES[cls], SHORT[1], tmp_path / "checkpoint")
    if "reason" in found:
        assert cls in NEVER_RUN and "was never run" in found["reason"], found
    else:
        assert 0 < found.get("error", 0) < 0.05, found


def test_a_cell_that_fails_says_why(tmp_path: Path) -> None:
    model = CLASSES["WanTransformer3DModel"]
    assert trial(model, "mixed", tmp_path / "mixed")["reason"].startswith("general/mixed: keep_budget")
    (tmp_path / "taken").write_text("")
    assert "taken" in trial(model, "fp8-dynamic", tmp_path / "taken")["reason"]


def test_a_defect_is_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(folder: Path) -> nn.Module:
        model = CLASSES["WanTransformer3DModel"].make_tiny(seed=1)
        return quant.quantize(model, "fp8-dynamic", progress=False)  # type: ignore[no-any-return]

    monkeypatch.setattr(quant, "load", loaded)
    found = trial(CLASSES["WanTransformer3DModel"], "fp8-dynamic", tmp_path / "checkpoint")
    assert found == {"reason": "loaded, it has other tensors"}


def test_tiny_models_and_inputs_come_from_their_seeds() -> None:
    model: Denoiser = CLASSES["MochiTransformer3DModel"]
    first, second, other = model.make_tiny(), model.make_tiny(), model.make_tiny(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.proj_out.weight, other.proj_out.weight)  # type: ignore[union-attr, arg-type]
    assert all(weight.any() for weight in first.parameters() if weight.ndim > 1)
    with torch.no_grad():
        (a,), (b,) = (outputs(first(**model.inputs(first, seed))) for seed in (0, 1))
    assert not torch.equal(a, b)
