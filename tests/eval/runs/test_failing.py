"""Candidates that fail are named and the others scored; what fails for all is known before the first video."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from quant.errors import QuantError
from quant.eval.inputs.models import Model, load_pipeline
from quant.eval.results.comparing import between_runs
from quant.eval.results.schema import read_results
from quant.eval.runs.running import run_evaluation
from tests.eval.runs.conftest import tiny

WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def bad(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Candidates by name: NaN in one layer, no configuration, and half of the weights' file."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("nan", "unreadable", "short"):
        shutil.copytree(models / "model", folder / name)
    tensors = load_file(folder / "nan" / WEIGHTS)
    tensors["blocks.0.attn1.to_q.weight"] *= float("nan")
    save_file(tensors, folder / "nan" / WEIGHTS, metadata={"format": "pt"})
    (folder / "unreadable" / "transformer" / "config.json").write_text("x")
    data = (folder / "short" / WEIGHTS).read_bytes()
    (folder / "short" / WEIGHTS).write_bytes(data[: len(data) // 2])
    return {name: str(folder / name) for name in ("nan", "unreadable", "short")}


def test_others_are_scored_and_each_failure_is_one_line_with_its_cause(
    models: Path, bad: dict[str, str], tmp_path: Path
) -> None:
    def load(model: Model, *given: Any, **named: Any) -> Any:
        if model.name == "large":
            raise MemoryError
        pipeline = load_pipeline(model, *given, **named)
        if model.name == "raises":
            pipeline.vae.decode = None
        return pipeline

    shutil.copytree(models / "part", tmp_path / "large")
    shutil.copytree(models / "part", tmp_path / "raises")
    for name in ("large", "raises"):  # weights of their own, so videos of their own
        (tmp_path / name / "more").write_text(name)
    own = {name: str(tmp_path / name) for name in ("large", "raises")}
    config = tiny(models, candidates={**bad, "fp8": str(models / "fp8"), **own}, samples=1, speed={"rounds": 1})
    folder = run_evaluation(config, tmp_path / "runs", load=load)
    found = read_results(folder)
    failed = {model["name"]: model["failed"] for model in found["models"]}
    assert {name for name, why in failed.items() if why is None} == {"original", "fp8"}
    assert failed["nan"] == "the video for 'a red fox' holds values that are not finite"
    for name, why in {
        "unreadable": "cannot be loaded: OSError: ",
        "short": "cannot be loaded: ",
        "large": "cannot be loaded: MemoryError",
        "raises": "made no video for 'a red fox': TypeError: 'NoneType' object is not callable",
    }.items():
        assert failed[name].startswith(why) and "\n" not in failed[name], failed[name]
    (sample,) = (sample["id"] for sample in found["samples"])
    by_name = {model["name"]: model for model in found["models"]}
    assert by_name["fp8"]["scores"][sample]["psnr"] > 0 and by_name["nan"]["scores"] == {}
    assert set(found["speed"]["models"]) == {"original", "fp8"}
    assert found["models"][0]["bf16_bytes"] == by_name["fp8"]["bf16_bytes"]
    rows, _ = between_runs(found, found, "A", "B")
    assert {row[0] for row in rows[1:]} == {"fp8"}


def test_where_the_original_fails_the_run_ends_in_one_line(models: Path, bad: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"^original: the video for 'a red fox' holds values that are not finite$"):
        run_evaluation(tiny(models, model=bad["nan"], samples=1), tmp_path)


def no_video(model: Model, *given: Any, **named: Any) -> Any:
    raise AssertionError("a pipeline was loaded")


def too_small(*given: Any) -> Any:
    return shutil._ntuple_diskusage(10**9, 10**9, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [2**64 - 2]}, "seed 18446744073709551616 of the last prompt is too large"),
        ({"sensitivity": {"fp8": "{tmp}/none.json"}}, r"none\.json: cannot be read: No such file"),
        ({"references": "{tmp}/clips"}, "no clips in it|no such file|cannot be read"),
        ({"metrics": {"fvd": ["videomae:{tmp}/none"]}}, "none"),
        ({"device": "cuda:99"}, "is not here"),
        ({"device": "warp"}, "is none that torch knows"),
    ],
)
def test_what_cannot_be_is_known_before_anything_is_loaded(
    models: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changes = json.loads(json.dumps(changes).replace("{tmp}", str(tmp_path)))
    with pytest.raises(QuantError, match=message):
        run_evaluation(tiny(models, **changes), tmp_path / "runs", load=no_video)
    assert not list((tmp_path / "runs").glob("*"))  # and nothing is left


def test_a_disk_without_room_and_missing_packages_are_known_before(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", too_small)
        message = r"6 videos of 5 frames of 16x16 take about 6\.14e-05 GB, and 1e-06 GB are free"
        with pytest.raises(QuantError, match=message):
            run_evaluation(tiny(models), tmp_path, load=no_video)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(QuantError, match=r"needs av and jsonschema: pip install 'quant-video\[eval\]'"):
        run_evaluation(tiny(models), tmp_path, load=no_video)


def test_runs_do_not_lie_in_what_they_read(models: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(models / "fp8", tmp_path / "fp8")
    with pytest.raises(QuantError, match="which is read as 'fp8': choose another --out"):
        run_evaluation(tiny(models, candidates={"fp8": str(copy)}), copy / "evals", load=no_video)
    (tmp_path / "file").write_text("")
    with pytest.raises(QuantError, match=r"cannot be (made|read)"):
        run_evaluation(tiny(models), tmp_path / "file", load=no_video)


def test_results_of_version_2_are_read(tmp_path: Path) -> None:
    from tests.eval.report.small_run import recorded

    (tmp_path / "results.json").write_text(json.dumps(recorded().body))
    found = read_results(tmp_path)
    assert found["format_version"] == 2 and {model["failed"] for model in found["models"]} == {None}
