from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.models import Model, load_pipeline
from quant.eval.metrics.frechet import frechet_distance
from quant.eval.metrics.kernel_distance import polynomial_mmd
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.networks.kinds import extractor
from quant.eval.results.schema import read_results
from quant.eval.runs.running import resume, run_evaluation
from quant.files.locks import locked
from quant.files.video_files import read_words, to_frames, write_bytes
from tests.eval.runs.conftest import free_port, tiny


def counted(loaded: list[str]) -> Any:
    def load(model: Model, *given: Any) -> Any:
        loaded.append(model.name)
        return load_pipeline(model, *given)

    return load


def without_time(folder: Path) -> dict[str, Any]:
    body = read_results(folder)
    del body["created"]
    return body


def test_scores_are_of_the_frames_on_disk_and_a_finished_run_loads_nothing(models: Path, tmp_path: Path) -> None:
    folder = run_evaluation(tiny(models), tmp_path)
    found = without_time(folder)
    original, candidate = found["models"]
    assert [model["name"] for model in found["models"]] == ["original", "fp8"]
    for sample in found["samples"]:
        one, other = (
            to_frames(read_words(folder / "frames" / model["fingerprint"] / f"{sample['id']}.mkv"))[None]
            for model in found["models"]
        )
        assert candidate["scores"][sample["id"]]["psnr"] == paired_psnr(one, other)[0]
        assert np.isfinite(candidate["scores"][sample["id"]]["psnr"])
    assert original["verdicts"] == [] and candidate["verdicts"]
    assert candidate["step_error"]["steps"] == [1, 2]
    loaded: list[str] = []
    assert resume(folder, load=counted(loaded)) == folder
    assert loaded == [] and without_time(folder) == found


def test_samples_and_candidates_are_added_to_the_run_that_is_there(models: Path, tmp_path: Path) -> None:
    loaded: list[str] = []
    first = run_evaluation(tiny(models, samples=2), tmp_path, load=counted(loaded))
    both = {"fp8": str(models / "fp8"), "part": str(models / "part")}
    second = run_evaluation(tiny(models, candidates=both), tmp_path, load=counted(loaded))
    assert first == second
    assert loaded == ["original", "fp8", "original", "fp8", "part"]
    assert len((first / "journal" / "generated-0.jsonl").read_text().splitlines()) == 2 * 2 + 2 + 3
    found = read_results(first)
    assert found["models"][1]["scores"] == found["models"][2]["scores"]  # the same weights, in a folder of their own


def test_a_changed_setting_is_another_run(models: Path, tmp_path: Path) -> None:
    first = run_evaluation(tiny(models, samples=1), tmp_path)
    second = run_evaluation(tiny(models, samples=1, settings={"num_inference_steps": 3}), tmp_path)
    assert first != second
    assert read_results(first)["key"] != read_results(second)["key"]


def test_damaged_frames_are_made_again(models: Path, tmp_path: Path) -> None:
    folder = run_evaluation(tiny(models), tmp_path)
    whole = without_time(folder)
    path = sorted((folder / "frames").rglob("*.mkv"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    loaded: list[str] = []
    resume(folder, load=counted(loaded))
    assert len(loaded) == 1 and path.read_bytes() != data
    assert without_time(folder) == whole


def test_a_run_of_another_original_is_not_resumed(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "model", tmp_path / "model")
    folder = run_evaluation(tiny(models, model=str(tmp_path / "model"), samples=1), tmp_path)
    (tmp_path / "model" / "more").write_text("x")
    with pytest.raises(QuantError, match=r"begun under other conditions \(fingerprint \w+ was \w+\)"):
        resume(folder)


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    for text in ("{", "[]", "{}", '{"samples": [1]}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(QuantError, match=r"not the folder of a run: its config\.json cannot be read"):
            resume(tmp_path)


def test_a_run_on_another_gpu_is_another_run(models: Path, tmp_path: Path) -> None:
    first = run_evaluation(tiny(models, samples=1), tmp_path)
    path = first / "config.json"
    body = json.loads(path.read_text())
    body["conditions"]["gpu"] = "NVIDIA A100-SXM4-80GB"
    path.write_text(json.dumps(body))
    with pytest.raises(QuantError, match=r"begun under other conditions \(gpu None was NVIDIA A100-SXM4-80GB\)"):
        resume(first)


def test_two_processes_do_not_work_on_one_run(models: Path, tmp_path: Path) -> None:
    folder = run_evaluation(tiny(models, samples=1), tmp_path)
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    with locked(folder / ".lock", "it"):
        commands: list[Callable[[], Path]] = [lambda: resume(folder), lambda: run_evaluation(tiny(models), tmp_path)]
        for go_on in commands:
            with pytest.raises(QuantError, match=rf"another process is writing it \(process {os.getpid()} on "):
                go_on()
    # A process of another rank outlives the first of its run, where that was killed.
    with locked(folder / ".lock-3", "it"), pytest.raises(QuantError, match="another process is writing it"):
        resume(folder)
    assert {path: path.read_bytes() for path in folder.glob("*.json")} == before
    resume(folder)
    assert not list(folder.glob(".lock*"))


def test_figures_do_not_depend_on_the_number_of_processes(models: Path, tmp_path: Path) -> None:
    config = tiny(models)
    alone = without_time(run_evaluation(config, tmp_path / "1"))
    for world in (2, 3):
        port = str(free_port())
        ranks = [in_a_rank(rank, world, port, config, tmp_path / str(world)) for rank in range(world)]
        assert [os.waitpid(process, 0)[1] for process in ranks] == [0] * world
        (folder,) = (tmp_path / str(world)).iterdir()
        assert without_time(folder) == alone
        assert len(list((folder / "journal").glob("generated-*.jsonl"))) == world
    assert json.dumps(alone, allow_nan=False)


def in_a_rank(rank: int, world: int, port: str, config: EvaluationConfig, out: Path) -> int:
    """A process that makes its part of a run."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            torch.set_num_threads(1)  # made anew after a fork
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            run_evaluation(config, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


VIDEOMAE = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks" / "videomae"
SENSITIVITY = Path(__file__).parents[3] / "benchmarks" / "results" / "sensitivity_fp8-dynamic.json"


def test_sets_are_compared_with_the_originals_and_with_the_first_frames_of_real_clips(
    models: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    generator = np.random.default_rng(0)
    videos = [generator.integers(0, 256, (7, 16, 16, 3), dtype=np.uint8) for _ in range(3)]
    for number, video in enumerate(videos):
        write_bytes(clips / f"{number}.mp4", video, fps=8)
    asked = {"metrics": {"lpips": [], "fvd": [f"videomae:{VIDEOMAE}"]}, "references": str(clips)}
    folder = run_evaluation(tiny(models, **asked, sensitivity={"fp8": str(SENSITIVITY)}), tmp_path)
    found = read_results(folder)
    ((name, sets),) = found["models"][1]["sets"].items()
    network = extractor(f"videomae:{VIDEOMAE}")
    assert name == f"fvd:{network.name}"
    features = {
        model["name"]: np.stack(
            [
                network(to_frames(read_words(folder / "frames" / model["fingerprint"] / f"{sample['id']}.mkv")))
                for sample in found["samples"]
            ]
        )
        for model in found["models"]
    }
    real = np.stack([network((video[:5] / 255).astype(np.float32)) for video in videos])
    assert sets["to_real"]["value"] == pytest.approx(frechet_distance(features["fp8"], real))
    assert sets["to_original"]["value"] == pytest.approx(frechet_distance(features["fp8"], features["original"]))
    assert sets["mmd_to_real"] == pytest.approx(polynomial_mmd(features["fp8"], real))
    assert str(tmp_path) not in (folder / "results.json").read_text() and str(VIDEOMAE) not in json.dumps(found)
    assert found["networks"][0]["name"] == "videomae:metric_networks/videomae"
    assert found["conditions"]["model"] == f"{models.name}/model"
    assert sets["to_real"]["enough"] is False
    assert sets["to_real"]["warning"]
    assert found["models"][0]["sets"][name]["to_original"] is None
    assert found["models"][1]["sensitivity"]["recipe"] == "general/fp8-dynamic"
    write_bytes(clips / "short.mp4", videos[0][:4], fps=8)
    limited = run_evaluation(tiny(models, **asked, reference_samples=3, name="limited"), tmp_path)
    assert read_results(limited)["models"][1]["sets"][name] == sets  # "short" comes fourth
    with pytest.raises(QuantError, match=r"short\.mp4"):
        run_evaluation(tiny(models, **asked), tmp_path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": {"fvd": ["videomae:/none"]}}, "/none"),
        ({"metrics": {"fvd": []}, "references": "/none"}, "no such file or folder of clips"),
    ],
)
def test_what_is_missing_is_said_before_any_video_is_made(
    models: Path, tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    loaded: list[str] = []
    with pytest.raises(QuantError, match=message):
        run_evaluation(tiny(models, **asked), tmp_path, load=counted(loaded))
    assert loaded == []


def test_times_are_taken_once_for_the_same_models(models: Path, tmp_path: Path) -> None:
    config = tiny(models, speed={"rounds": 1, "gpu": "h100-sxm"})
    folder = run_evaluation(config, tmp_path)
    speed = read_results(folder)["speed"]
    assert set(speed["models"]) == {"original", "fp8"}
    assert speed["models"]["fp8"]["stages"]["step"]["n"] == 2
    predicted = speed["estimated"]["models"]
    assert predicted["fp8"]["step_s"] > 0 and predicted["original"]["step_s"] > 0
    assert speed["estimated"]["gpu"] == "h100-sxm"
    assert speed["label"] == "reference arithmetic on a CPU: not a kernel's time"
    run_evaluation(config, tmp_path)
    assert read_results(folder)["speed"] == speed
