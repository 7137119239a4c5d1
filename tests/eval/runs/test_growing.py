"""A finished run that more is asked of: it loses nothing, mistakes no model for another, and notices changed files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from quant.errors import QuantError
from quant.eval.inputs.models import Model, load_pipeline
from quant.eval.results.schema import read_results
from quant.eval.runs.requests import read_request
from quant.eval.runs.running import resume, run_evaluation
from quant.files.video_files import write_bytes
from tests.eval.runs.conftest import tiny

WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"
VIDEOMAE = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks" / "videomae"


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with one of two samples, with features."""
    out = tmp_path_factory.mktemp("runs")
    run_evaluation(asked(models), out)
    return out


def asked(models: Path, **changes: Any) -> Any:
    return tiny(models, **{"samples": 2, "metrics": {"lpips": [], "fvd": [f"videomae:{VIDEOMAE}"]}, **changes})


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def folder_of(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def found(folder: Path) -> dict[str, Any]:
    body = read_results(folder)
    del body["created"]
    return body


def other_weights(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a pipeline folder with changed weights of the transformer."""
    shutil.copytree(source, target)
    tensors = load_file(target / WEIGHTS)
    change(tensors)
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    (target / "quant_manifest.json").unlink()
    return target


def test_a_candidate_given_later_is_added_and_its_samples_are_those_of_the_run(models: Path, out: Path) -> None:
    before = found(folder_of(out))
    run_evaluation(asked(models, candidates={"part": str(models / "part")}, samples=1), out)
    after = found(folder_of(out))
    assert [model["name"] for model in after["models"]] == ["original", "fp8", "part"]
    assert after["models"][:2] == before["models"] and after["samples"] == before["samples"]
    assert not (folder_of(out) / "config.next.json").exists()
    resume(folder_of(out))
    assert found(folder_of(out)) == after


def test_other_weights_under_a_known_name_are_refused_and_nothing_is_changed(
    models: Path, out: Path, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["blocks.1.ffn.net.2.weight_scale"] *= 1.5

    changed = other_weights(models / "fp8", tmp_path / "fp8", change)
    files = {path: path.read_bytes() for path in folder_of(out).rglob("*") if path.is_file()}
    message = r"has a candidate 'fp8' of other weights \(fingerprint .*give the new one another name"
    with pytest.raises(QuantError, match=message):
        run_evaluation(asked(models, candidates={"fp8": str(changed)}), out)
    assert {path: path.read_bytes() for path in folder_of(out).rglob("*") if path.is_file()} == files
    run_evaluation(asked(models, candidates={"fp8-b": str(changed)}), out)
    by_name = {model["name"]: model for model in found(folder_of(out))["models"]}
    assert by_name["fp8"]["summary"]["psnr"] != by_name["fp8-b"]["summary"]["psnr"]


def test_a_command_that_fails_leaves_config_and_results(models: Path, out: Path) -> None:
    def load(model: Model, *given: Any, **named: Any) -> Any:
        raise MemoryError("no room\nfor it")

    kept = {path: path.read_bytes() for path in folder_of(out).glob("*.json")}
    with pytest.raises(QuantError, match=r"^original: cannot be loaded: MemoryError: no room$"):
        run_evaluation(asked(models, samples=3), out, load=load)
    assert {path: path.read_bytes() for path in kept} == kept
    resume(folder_of(out))  # goes on with what failed
    assert len(found(folder_of(out))["samples"]) == 3


def npy(path: Path, scale: float = 1.5) -> None:
    with path.open("rb") as file:
        values = np.load(file)
    np.save(path, values * scale)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "features/*/*/*.npy": npy,
    "steps/*/*.npy": npy,
    "videos/fp8/*.mp4": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "frames/*/*.mkv": lambda path: path.write_bytes(b""),
}


def test_changed_and_half_written_files_are_made_again(out: Path) -> None:
    folder = folder_of(out)
    before, files = found(folder), {}
    for pattern, damage in DAMAGES.items():
        for path in folder.glob(pattern):
            files[path] = path.read_bytes()
            damage(path)
            assert path.read_bytes() != files[path]
    assert len(files) > 12
    resume(folder)
    assert {path: path.read_bytes() for path in files} == files and found(folder) == before


def test_a_candidate_that_changes_while_its_videos_are_made_has_failed(models: Path, out: Path, tmp_path: Path) -> None:
    def touch(tensors: dict[str, Any]) -> None:
        tensors["blocks.0.ffn.net.2.weight_scale"] *= 1.25

    moving = other_weights(models / "fp8", tmp_path / "moving", touch)

    def load(model: Model, *given: Any, **named: Any) -> Any:
        pipeline = load_pipeline(model, *given, **named)
        tensors = load_file(moving / WEIGHTS)
        touch(tensors)
        save_file(tensors, moving / WEIGHTS, metadata={"format": "pt"})
        return pipeline

    run_evaluation(asked(models, candidates={"moving": str(moving)}), out, load=load)
    *good, failed = found(folder_of(out))["models"]
    assert [model["failed"] for model in good] == [None, None]
    assert "changed while the run went on" in failed["failed"] and failed["scores"] == {}
    assert not list((folder_of(out) / "frames" / failed["fingerprint"]).glob("*.mkv"))
    with pytest.raises(QuantError, match="has a candidate 'moving' of other weights"):
        resume(folder_of(out))


def test_a_run_of_ends_only_fingerprints_is_not_gone_on_with(out: Path) -> None:
    path = folder_of(out) / "config.json"
    body = json.loads(path.read_text())
    body["conditions"]["fingerprint"] = "0123456789abcdef"
    path.write_text(json.dumps(body))
    with pytest.raises(QuantError, match="did not read all of the weights, so its videos are made again"):
        resume(folder_of(out))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": 5}', '{"a": 1}', "\x00"])
def test_a_config_of_another_kind_is_one_line(out: Path, text: str) -> None:
    (folder_of(out) / "config.json").write_text(text)
    with pytest.raises(QuantError, match=r"not the folder of a run: its config\.json cannot be read"):
        resume(folder_of(out))
    assert not list(folder_of(out).glob(".lock*"))


def test_a_folder_of_something_else_is_not_written_into(models: Path, out: Path) -> None:
    (folder_of(out) / "config.json").unlink()
    with pytest.raises(QuantError, match="holds what no run made"):
        run_evaluation(asked(models), out)


def test_a_run_that_grows_keeps_its_networks_and_its_times(models: Path, tmp_path: Path) -> None:
    first = run_evaluation(asked(models, samples=1, speed={"rounds": 1}), tmp_path)
    before = found(first)
    more = {"part": str(models / "part")}
    assert run_evaluation(tiny(models, candidates=more, samples=1, metrics={}), tmp_path) == first
    after = found(first)
    assert before["speed"] and after["speed"] == before["speed"]  # tiny() says "speed: false"
    assert len(after["models"]) == 3 and after["networks"] == before["networks"] != []


def test_a_finished_candidate_needs_its_folder_no_more(models: Path, tmp_path: Path) -> None:
    first = shutil.copytree(models / "fp8", tmp_path / "first")
    given = {"samples": 1, "metrics": {"lpips": [], "fvd": []}}
    folder = run_evaluation(tiny(models, candidates={"first": str(first)}, **given), tmp_path / "out")
    before = found(folder)["models"][1]
    for gone in (False, True):
        if gone:
            shutil.rmtree(first)
        else:
            tensors = load_file(first / WEIGHTS)
            tensors["blocks.0.ffn.net.2.weight_scale"] *= 1.25
            save_file(tensors, first / WEIGHTS, metadata={"format": "pt"})
        name = "gone" if gone else "other"
        with pytest.raises(QuantError, match=r"has a candidate 'first' of other weights|no such model folder"):
            run_evaluation(tiny(models, candidates={"first": str(first)}, **given), tmp_path / "out")
        run_evaluation(tiny(models, candidates={name: str(models / "part")}, **given), tmp_path / "out")
        resume(folder)
        assert found(folder)["models"][1] == before
        assert found(folder)["models"][-1]["name"] == name
    with pytest.raises(QuantError, match=r"2 videos are missing of its candidate 'first', and .*first is gone or has"):
        run_evaluation(asked(models, samples=3), tmp_path / "out")


def test_a_candidate_that_failed_may_be_mended_under_its_name(models: Path, out: Path, tmp_path: Path) -> None:
    mended = shutil.copytree(models / "fp8", tmp_path / "mended")
    whole = (mended / WEIGHTS).read_bytes()
    (mended / WEIGHTS).write_bytes(whole[:-100])
    for data, fails in ((whole[:-100], True), (whole, False)):
        (mended / WEIGHTS).write_bytes(data)
        run_evaluation(asked(models, candidates={"mended": str(mended)}), out)
        last = found(folder_of(out))["models"][-1]
        assert (last["name"], bool(last["failed"])) == ("mended", fails)


def test_a_mistaken_request_is_taken_back_by_the_next_command(models: Path, out: Path, tmp_path: Path) -> None:
    def stop(*given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    for place, many in ((out, 3), (tmp_path / "new", 3)):  # what adds to a run, and what begins one
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(asked(models, samples=many), place, load=stop)
        folder = folder_of(place)
        assert len(read_request(folder).samples) == many
        run_evaluation(asked(models, candidates={"part": str(models / "part")}, samples=1), place)
        assert len(found(folder)["samples"]) == (2 if place == out else 1)
        assert [model["name"] for model in found(folder)["models"]][1:] == (
            ["fp8", "part"] if place == out else ["part"]
        )
        assert not (folder / "config.next.json").exists()


def test_a_candidate_whose_original_changes_is_not_recorded(models: Path, tmp_path: Path) -> None:
    moving = shutil.copytree(models / "model", tmp_path / "model")
    config = asked(
        models, model=str(moving), candidates={"part": str(models / "part")}, metrics={"lpips": [], "fvd": []}
    )

    def load(model: Model, *given: Any, **named: Any) -> Any:
        pipeline = load_pipeline(model, *given, **named)
        if model.name == "part":
            (moving / "vae" / "more").write_text("x")
        return pipeline

    with pytest.raises(QuantError, match=r"^original: .*model changed while the run went on"):
        run_evaluation(config, tmp_path / "out", load=load)
    (folder,) = (tmp_path / "out").iterdir()
    assert len(list(folder.glob("frames/*"))) == 1 and not list(folder.glob("videos/part/*"))


def test_a_run_that_ends_while_real_clips_are_read_is_gone_on_with(models: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, short in (("a", False), ("b", True)):
        frames = np.zeros((1 if short else 5, 16, 16, 3), dtype=np.uint8)
        write_bytes(tmp_path / "clips" / f"{name}.mp4", frames, fps=16)
    config = asked(models, references=str(tmp_path / "clips"), samples=1)
    with pytest.raises(QuantError, match=r"b\.mp4"):
        run_evaluation(config, tmp_path / "out")
    assert (folder_of(tmp_path / "out") / "features").is_dir()
    (tmp_path / "clips" / "b.mp4").unlink()
    run_evaluation(config, tmp_path / "out")
