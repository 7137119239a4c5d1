"""`quant.calibrate` on a recording: as if the pipeline had been run on the same calls, and without running it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import quant
from quant.calibration.kept_solutions import KeptSolutions
from quant.cli import main
from quant.pipelines.source import Source
from tests.tiny_pipeline import PROMPTS, SETTINGS

LOAD = Source.load_pipeline
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def recording(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All calls of a run on all prompts: both steps of each."""
    folder = tmp_path_factory.mktemp("recording") / "calls"
    quant.record(model_folder, folder, prompts=PROMPTS, calls=2 * len(PROMPTS), progress=False)
    return folder


@pytest.fixture(autouse=True)
def _no_pipeline(recording: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*given: Any) -> None:
        raise AssertionError("the pipeline is loaded")

    monkeypatch.setattr(Source, "load_pipeline", load)


@pytest.mark.parametrize("recipe", ["fp8-static", "w8a8"])
def test_it_writes_what_a_run_of_the_pipeline_writes(
    model_folder: Path, recording: Path, checkpoints: dict[str, Path], tmp_path: Path, recipe: str
) -> None:
    made = quant.calibrate(model_folder, recipe, tmp_path / "out", calls=recording, full=True, progress=False)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (checkpoints[recipe] / WEIGHTS).read_bytes()
    found, expected = (
        json.loads((folder / "quant_manifest.json").read_text()) for folder in (tmp_path / "out", checkpoints[recipe])
    )
    assert found["layers"] == expected["layers"] and made.used_prompts == len(PROMPTS)
    record = found["calibration"]
    assert (record["prompts"], record["recording"]["calls"]) == (PROMPTS, {"transformer": 4 * len(PROMPTS)})
    assert record["settings"].items() >= SETTINGS.items()


def test_one_that_was_killed_goes_on_and_gives_the_same_bytes(
    model_folder: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"targets": ["re:.*ffn.*"], "scheme": "W8A8", "algorithm": "gptq"}
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [group]})
    run = partial(quant.calibrate, model_folder, recipe, calls=recording, progress=False)
    run(tmp_path / "whole")
    store, stored = KeptSolutions.store, list[int]()

    def stop(self: KeptSolutions, number: int, *given: Any) -> Any:
        if len(stored) == 3:  # of four
            raise KeyboardInterrupt
        stored.append(number)
        return store(self, number, *given)

    with monkeypatch.context() as patched:
        patched.setattr(KeptSolutions, "store", stop)
        with pytest.raises(KeyboardInterrupt, match=r"^interrupted; what was done is kept: the same command goes on$"):
            run(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / ".out.quant" / "solved").iterdir()) == [
        f"0000{number}.safetensors" for number in range(3)
    ]
    run(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    for name in ("quant_manifest.json", WEIGHTS):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_component_alone_is_calibrated_from_the_command_line(
    model_folder: Path, recording: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = [str(model_folder / "transformer"), "--recipe", "fp8-static", "--calls", str(recording), "--out", str(out)]
    done = CliRunner().invoke(main, ["calibrate", *given, "--quiet"])
    assert done.exit_code == 0, done.output
    assert (out / Path(WEIGHTS).name).read_bytes() == (checkpoints["fp8-static"] / WEIGHTS).read_bytes()


def test_with_its_inputs_a_recording_is_made_and_kept_or_used(
    model_folder: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe of ranges, which would run the pipeline; the recording that is there has six steps, and not 32."""
    run = partial(quant.calibrate, model_folder, "fp8-static", prompts=PROMPTS, progress=False)
    run(tmp_path / "out", calls=recording)
    with monkeypatch.context() as patched:
        patched.setattr(Source, "load_pipeline", LOAD)
        with pytest.warns(UserWarning, match="6 steps of 'transformer' are recorded, 32 were asked for"):
            run(tmp_path / "again", calls=tmp_path / "calls")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "calls", "out"]
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "out" / WEIGHTS).read_bytes()
    run(tmp_path / "third", calls=tmp_path / "calls")


def test_a_budget_is_measured_on_the_inputs_of_a_recording(
    model_folder: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers that are kept are those that a run of the pipeline keeps."""
    monkeypatch.setattr(Source, "load_pipeline", LOAD)
    run = partial(quant.calibrate, model_folder, "w8a8", prompts=PROMPTS, keep_budget=quant.KeepBudget(0.05))
    made = [run(tmp_path / "on-calls", calls=recording, progress=False), run(tmp_path / "running", progress=False)]
    kept = [set(each.recipe.ignore) for each in made]
    assert kept[0] == kept[1] and any("blocks." in name for name in kept[0])
    assert (made[0].folder / WEIGHTS).read_bytes() == (made[1].folder / WEIGHTS).read_bytes()
    assert (made[0].folder / "sensitivity.json").read_bytes() == (made[1].folder / "sensitivity.json").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": PROMPTS[:2]}, "holds a recording that differs in its inputs; leave"),
        ({"samples": 2}, "calls and samples are given: a recording is of its own inputs"),
        ({"keep_budget": quant.KeepBudget(0.05)}, "keep_budget measures the pipeline on prompts"),
        ({"settings": quant.GenerationSettings(height=32)}, "was recorded with height 16, not 32"),
    ],
)
def test_what_does_not_go_with_a_recording_is_refused(
    model_folder: Path, recording: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(quant.QuantError, match=message):
        quant.calibrate(model_folder, "fp8-static", tmp_path / "out", calls=recording, progress=False, **given)
    assert not list(tmp_path.iterdir())
