"""`quant.record` and what it refuses; a recording that a model is not to be calibrated on is refused, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant.api.record_calls import check_calls
from quant.calibration import calls as calls_module
from quant.calibration.calls import Calls, open_calls
from quant.checkpoint.kept_files import keep
from quant.pipelines.source import open_source
from tests.tiny_pipeline import PROMPTS


@pytest.fixture(scope="module")
def recording(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recording") / "calls"
    quant.record(model_folder, out, prompts=PROMPTS, calls=3, progress=False)
    return out


@pytest.fixture
def copy(recording: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recording, tmp_path / "copy"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_it_makes(recording: Path) -> None:
    assert [path.name for path in recording.parent.iterdir()] == ["calls"]
    assert sorted(path.name for path in recording.iterdir()) == ["calls", "recording.json", "tensors"]
    made = open_calls(recording)
    assert len(made.places("transformer")) == 6
    about = made.about
    assert about["settings"]["height"] == 16  # of generation.json
    assert (about["seed"], about["steps_recorded"], about["dtype"]) == (0, 3, "bfloat16")
    assert about["inputs"] == [{"prompt": prompt} for prompt in PROMPTS]
    _, kwargs = made.load(made.places("transformer")[0])
    assert kwargs["hidden_states"].dtype == torch.bfloat16


def test_a_killed_recording_goes_on(
    model_folder: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [2]

    def stop(*args: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        keep(*args)

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(calls_module, "keep", stop)
        with pytest.raises(KeyboardInterrupt, match="what was done is kept: the same command goes on"):
            quant.record(model_folder, out, prompts=PROMPTS, calls=3, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".out.quant"]
    quant.record(model_folder, out, prompts=PROMPTS, calls=3, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert files(out) == files(recording)

    left[0] = 2
    with monkeypatch.context() as patched:
        patched.setattr(calls_module, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            quant.record(model_folder, tmp_path / "other", prompts=PROMPTS, calls=3, progress=False)
    says = r"other: an interrupted run differed in its inputs and seed; what it had done is dropped$"
    few = r"other: 2 steps of 'transformer' are recorded, 3 were asked for: 1 inputs have no more of them$"
    with pytest.warns(UserWarning, match=says), pytest.warns(UserWarning, match=few):
        quant.record(model_folder, tmp_path / "other", prompts=PROMPTS[:1], calls=3, seed=1, progress=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompts": None}, "give one of prompts and inputs: what the pipeline is run on"),
        ({"inputs": [{"prompt": "snow"}]}, "give one of prompts and inputs"),
        ({"calls": 0}, "calls: must be a whole number from 1 to"),
        ({"samples": 0}, "samples: must be a whole number from 1 to"),
        ({"seed": -1}, "seed: must be a whole number from 0 to"),
        ({"settings": quant.GenerationSettings(depth=3)}, "WanPipeline takes no 'depth'"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    model_folder: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(quant.QuantError, match=says):
        quant.record(model_folder, tmp_path / "out", **{"prompts": PROMPTS, **changes})
    assert not list(tmp_path.iterdir())


def test_places_that_are_taken_are_refused(model_folder: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match=r"copy: already holds a recording; choose another --out, or remove it"):
        quant.record(model_folder, copy, prompts=PROMPTS)
    with pytest.raises(quant.QuantError, match=r"lies in the original"):
        quant.record(model_folder, model_folder / "calls", prompts=PROMPTS)
    with pytest.raises(quant.QuantError, match=r"transformer: the whole pipeline is run; give the pipeline's folder$"):
        quant.record(model_folder / "transformer", tmp_path / "out", prompts=PROMPTS)


def test_a_recording_of_this_model_is_taken(model_folder: Path, recording: Path, tmp_path: Path) -> None:
    made, settings = open_calls(recording), quant.GenerationSettings(num_inference_steps=2)
    check_calls(made, open_source(model_folder), ["transformer"], settings=settings, dtype=torch.bfloat16)
    shutil.copytree(model_folder, tmp_path / "elsewhere")  # with other times: the same model
    check_calls(made, open_source(tmp_path / "elsewhere"), ["transformer"])


def refusal(made: Calls, model: Path, *components: str, **given: Any) -> str:
    with pytest.raises(quant.QuantError) as error:
        check_calls(made, open_source(model), components or ("transformer",), **given)
    return str(error.value)


def test_a_recording_that_does_not_fit_is_refused(model_folder: Path, copy: Path, tmp_path: Path) -> None:
    made = open_calls(copy)
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    weights = other / "transformer" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    assert "copy: was recorded of another 'transformer' than " in refusal(made, other)
    assert refusal(made, model_folder, "unet") == f"{copy}: holds no calls of 'unet', only of transformer"
    assert "was recorded with num_inference_steps 2, not 3" in refusal(
        made, model_folder, settings=quant.GenerationSettings(num_inference_steps=3)
    )
    assert "was recorded in 'bfloat16', not float16" in refusal(made, model_folder, dtype=torch.float16)
    path = sorted((copy / "calls").iterdir())[-1]
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(made, model_folder) == f"{path}: missing or damaged; record again into another folder"


def test_a_recording_that_says_nothing_of_its_model_is_refused(tmp_path: Path, model_folder: Path) -> None:
    made = calls_module.CallsWriter(tmp_path, "key").finish({"model": 3}, {"transformer": []})
    assert "recording.json: damaged: it does not say of which model it is" in refusal(made, model_folder)
    assert json.loads((tmp_path / "recording.json").read_text())["model"] == 3
