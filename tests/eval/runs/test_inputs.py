"""Runs of pipelines of other kinds than Wan's, from tables of inputs and from prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import quant
from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.parsing import from_dict
from quant.eval.results.schema import read_results
from quant.eval.runs.running import resume, run_evaluation
from tests import tiny_pipelines


def _config(folder: Path, **changes: Any) -> EvaluationConfig:
    body = {
        "model": str(folder / "model"),
        "candidates": {"fp8": str(folder / "fp8")},
        "metrics": {"lpips": [], "fvd": []},
        "speed": False,
        "device": "cpu",
    }
    return from_dict({**body, **changes}, source="test", base=folder)


def _models(folder: Path, name: str) -> None:
    model = tiny_pipelines.save(name, folder)
    quant.calibrate(model, "fp8-dynamic", folder / "fp8", full=True, progress=False)


@pytest.mark.parametrize(
    "name", ["control", "image-alone", "unet", "video-length", "video-forcing", "no-steps", "modular"]
)
def test_videos_are_made_scored_and_timed_from_a_table(tmp_path: Path, name: str) -> None:
    _models(tmp_path, name)
    inputs = tiny_pipelines.table(name, tmp_path, 1)
    config = _config(tmp_path, inputs=str(inputs), speed={"rounds": 1})
    results = read_results(run_evaluation(config, tmp_path / "runs"))
    (sample,) = results["samples"]
    row = tiny_pipelines.KINDS[name].row
    assert sorted(sample.get("inputs", {"prompt": ""})) == sorted(row)
    original, candidate = results["models"]
    assert candidate["failed"] is None and "psnr" in candidate["summary"]
    assert candidate["step_error"]["steps"][:2] == [1, 2]
    assert original["name"] == "original"
    speed = results["speed"]
    assert [{**each, "latents_sha256": sample["latents_sha256"]} for each in speed["samples"]] == [sample]
    for timed in speed["models"].values():
        assert timed["failed"] is None and timed["notes"] == [] and timed["kernels"]
        assert {"step", "vae", "end_to_end"} <= set(timed["stages"])
        assert ("input_encoder" in timed["stages"]) == bool({"image", "video"} & set(row))


def test_a_run_goes_on_from_its_folder_alone(tmp_path: Path) -> None:
    _models(tmp_path, "control")
    inputs = tiny_pipelines.table("control", tmp_path, 1)
    folder = run_evaluation(_config(tmp_path, inputs=str(inputs)), tmp_path / "runs")
    before = json.loads((folder / "results.json").read_text())
    inputs.unlink()
    shutil.rmtree(tmp_path / "masks")
    (tmp_path / "clip.mp4").unlink()
    shutil.rmtree(folder / "frames")
    resume(folder)
    after = json.loads((folder / "results.json").read_text())
    assert after["samples"] == before["samples"] and after["models"] == before["models"]


def test_what_does_not_fit_is_refused_before_a_video_is_made(tmp_path: Path) -> None:
    _models(tmp_path, "control")
    inputs = tiny_pipelines.table("control", tmp_path, 1)
    inputs.write_text('{"prompt": "a", "strength": 1}')
    with pytest.raises(QuantError, match=r"inputs\.jsonl: row 1: WanVACEPipeline takes no 'strength'"):
        run_evaluation(_config(tmp_path, inputs=str(inputs)), tmp_path / "runs")
    with pytest.raises(QuantError, match="'inputs' and 'prompts' are given"):
        _config(tmp_path, inputs=str(inputs), prompts=["a"])
