"""A calibration that was interrupted goes on, and ends as if it had not been."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel

import quant
from quant.api import calibrate as calibrating
from quant.api import gathering, writing
from quant.api.room import check_room
from quant.calibration import solving
from quant.calibration.calls import CallsWriter
from quant.calibration.journal import Journal
from quant.calibration.kept_solutions import KeptSolutions
from quant.checkpoint.folder import holding
from quant.checkpoint.kept_files import keep, kept
from quant.recipe_files import find_recipe
from tests.tiny_pipeline import PROMPTS


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts the pipeline is called with, from now on; the journal is written after each."""
    monkeypatch.setattr(gathering, "Journal", partial(Journal, seconds=0))
    seen: list[str] = []
    call = WanPipeline.__call__

    def watched(self: WanPipeline, *args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["prompt"])
        return call(self, *args, **kwargs)

    watched.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    monkeypatch.setattr(WanPipeline, "__call__", watched)
    return seen


def interrupted_after(count: int, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs until `count` prompts are done and written."""

    def stop(self: Journal, done: int) -> None:
        prompt_done(self, done)
        if done == count:
            raise KeyboardInterrupt

    prompt_done = Journal.prompt_done
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "prompt_done", stop)
        with pytest.raises(KeyboardInterrupt):
            run()


@pytest.mark.parametrize("recipe", ["fp8-static", "w8a8"])
def test_it_goes_on_where_it_was_and_gives_the_same_bytes(
    checkpoints: dict[str, Path],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ran: list[str],
    recipe: str,
) -> None:
    out = tmp_path / "out"
    run = partial(quant.calibrate, model_folder, recipe, out, prompts=PROMPTS, full=True, progress=False)
    interrupted_after(2, run, monkeypatch)
    assert [path.name for path in tmp_path.iterdir()] == [".out.quant"]
    run()
    assert ran == PROMPTS  # none of them twice
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for name in ("quant_manifest.json", "transformer/diffusion_pytorch_model.safetensors"):
        assert (out / name).read_bytes() == (checkpoints[recipe] / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "differs"),
    [({"recipe": "fp8-static"}, "recipe"), ({"prompts": ["snow", "a fox"]}, "inputs"), ({"seed": 5}, "recipe")],
)
def test_another_run_starts_from_nothing_and_says_so(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ran: list[str],
    change: dict[str, Any],
    differs: str,
) -> None:
    call: dict[str, Any] = {"recipe": "w8a8", "out": tmp_path / "out", "prompts": PROMPTS, "progress": False}
    interrupted_after(2, partial(quant.calibrate, model_folder, **call), monkeypatch)
    ran.clear()
    said = rf"out: an interrupted run differed in its {differs}; what it had done is dropped$"
    with pytest.warns(UserWarning, match=said):
        quant.calibrate(model_folder, **{**call, **change})
    assert ran == change.get("prompts", PROMPTS)


def test_of_several_passes_what_was_solved_is_not_run_again(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    body = {
        "version": 1,
        "groups": [{"targets": ["re:.*ffn.*"], "scheme": "W8A8", "algorithm": "gptq"}],
        "calibration": {"samples": 3, "hessian_gb": 1e-6},  # a pass for each of the four inputs
    }
    recipe = quant.Recipe.from_dict(body)
    run = partial(quant.calibrate, model_folder, recipe, prompts=PROMPTS, progress=False)
    monkeypatch.setattr(gathering, "not_recorded", lambda *components: "calls cannot be recorded")
    notes = r"^calls cannot be recorded; .* is calibrated while the pipeline runs on 3 inputs instead, once for every"
    with pytest.warns(UserWarning, match=notes):
        run(tmp_path / "whole")
    assert ran == PROMPTS * 4
    ran.clear()
    calls: list[int] = []
    prompt_done = Journal.prompt_done

    def stop(self: Journal, done: int) -> None:
        prompt_done(self, done)
        calls.append(done)
        if len(calls) == 2 * len(PROMPTS) + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "prompt_done", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.quant", "whole"]
    assert len(list((tmp_path / ".out.quant" / "solved").iterdir())) == 2
    ran.clear()
    run(tmp_path / "out")
    assert ran == [*PROMPTS[1:], *PROMPTS]  # the rest of the third pass, and the fourth
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    for name in ("quant_manifest.json", "transformer/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def stopped_while_solving(after: int, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts are done and written, and so are the solutions of `after` inputs."""

    def stop(*args: Any) -> Any:
        solved.append(1)
        if len(solved) > after:
            raise KeyboardInterrupt
        return solve(*args)

    solve, solved = solving._solve_group, list[int]()
    with monkeypatch.context() as patched:
        patched.setattr(solving, "_solve_group", stop)
        with pytest.raises(KeyboardInterrupt, match=r"^interrupted; what was done is kept: the same command goes on$"):
            run()


HESSIANS = quant.Recipe.from_dict(
    {"version": 1, "groups": [{"targets": ["re:.*ffn.*"], "scheme": "W8A8", "algorithm": "gptq"}]}
)


@pytest.mark.parametrize("stopped", ["recording", "solving"])
def test_one_with_a_recording_of_its_own_goes_on_and_removes_it(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str], stopped: str
) -> None:
    """What it writes is what a recording that `quant record` has made gives."""
    run = partial(quant.calibrate, model_folder, HESSIANS, progress=False)
    with pytest.warns(UserWarning, match="6 steps of 'transformer' are recorded, 32 were asked for"):
        quant.record(model_folder, tmp_path / "calls", prompts=PROMPTS, progress=False)
    run(tmp_path / "whole", calls=tmp_path / "calls")
    where, name, after = {
        "recording": (CallsWriter, "write", 7),  # of twelve
        "solving": (KeptSolutions, "store", 3),  # of four
    }[stopped]
    work, done = getattr(where, name), list[int]()

    def stop(*given: Any) -> Any:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(1)
        return work(*given)

    with monkeypatch.context() as patched:
        patched.setattr(where, name, stop)
        with pytest.raises(KeyboardInterrupt, match=r"^interrupted; what was done is kept: the same command goes on$"):
            run(tmp_path / "out", prompts=PROMPTS)
    kept = tmp_path / ".out.quant"
    assert len(list((kept / "recorded" / "calls").iterdir())) == (7 if stopped == "recording" else 12)
    ran.clear()
    made = run(tmp_path / "out", prompts=PROMPTS)
    assert ran == (PROMPTS[1:] if stopped == "recording" else [])  # of each input: a look at it, kept, and its steps
    assert made.used_prompts == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls", "out", "whole"]
    for file in ("quant_manifest.json", "transformer/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_recording_of_its_own_that_is_damaged_is_made_again(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    run = partial(quant.calibrate, model_folder, HESSIANS, tmp_path / "out", prompts=PROMPTS, progress=False)
    stopped_while_solving(1, run, monkeypatch)
    recorded = tmp_path / ".out.quant" / "recorded"
    call = min((recorded / "calls").iterdir())
    call.write_bytes(b"damaged")
    ran.clear()
    run()
    assert ran == PROMPTS[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_calls_that_cannot_be_recorded_or_replayed_are_said_and_the_pipeline_is_run(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    run = partial(quant.calibrate, model_folder, HESSIANS, prompts=PROMPTS, progress=False)
    with monkeypatch.context() as patched:
        patched.setattr(gathering, "takes_calls", lambda recipe: False)
        run(tmp_path / "whole")
    monkeypatch.setattr(WanTransformer3DModel, "forward", torch.inference_mode()(WanTransformer3DModel.forward))
    with pytest.warns(UserWarning, match="cannot go through it block by block; .* while the pipeline runs"):
        run(tmp_path / "out")
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


@pytest.mark.parametrize("after", [0, 3])
def test_one_that_was_stopped_while_it_solved_runs_no_prompt_again(
    checkpoints: dict[str, Path],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ran: list[str],
    after: int,
) -> None:
    out = tmp_path / "out"
    run = partial(quant.calibrate, model_folder, "w8a8", out, prompts=PROMPTS, full=True, progress=False)
    stopped_while_solving(after, run, monkeypatch)
    assert len(list((tmp_path / ".out.quant" / "solved").glob("*"))) == after
    ran.clear()
    if after:  # and once more, with the statistics of those that are left
        stopped_while_solving(1, run, monkeypatch)
    run()
    assert ran == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for name in ("quant_manifest.json", "transformer/diffusion_pytorch_model.safetensors"):
        assert (out / name).read_bytes() == (checkpoints["w8a8"] / name).read_bytes()


def test_a_solution_that_is_lost_makes_the_pass_start_anew(
    checkpoints: dict[str, Path], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    """The journal of a run that went on has only what was left then: half of the prompts would make half a range."""
    out = tmp_path / "out"
    run = partial(quant.calibrate, model_folder, "w8a8", out, prompts=PROMPTS, full=True, progress=False)
    interrupted_after(2, run, monkeypatch)
    stopped_while_solving(3, run, monkeypatch)
    file = tmp_path / ".out.quant" / "journal.safetensors"
    found, wanted = kept(file), "blocks.0.attn1.to_q"
    assert found is not None
    state, notes = found
    assert any(wanted in name for name in state)
    left = {name: tensor for name, tensor in state.items() if wanted not in name}
    keep(file, left, {**notes, "done": "2"})
    (tmp_path / ".out.quant" / "solved" / "00000.safetensors").write_bytes(b"damaged")
    ran.clear()
    run()
    assert ran == PROMPTS
    for name in ("quant_manifest.json", "transformer/diffusion_pytorch_model.safetensors"):
        assert (out / name).read_bytes() == (checkpoints["w8a8"] / name).read_bytes()


def test_a_failure_at_the_end_keeps_what_was_solved(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    out = tmp_path / "out"
    run = partial(quant.calibrate, model_folder, "w8a8", out, prompts=PROMPTS, progress=False)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_manifest", full)
        with pytest.raises(quant.QuantError) as error:
            run()
    kept = "what was done is kept: the same command goes on"
    assert str(error.value) == f"{out}: cannot be written: No space left on device; {kept}"
    assert [path.name for path in tmp_path.iterdir()] == [".out.quant"]
    ran.clear()
    run()
    assert ran == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_run_that_is_refused_says_nothing_of_what_another_has_done(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise quant.QuantError("no room")

    with holding(tmp_path / "out", force=False) as folder:
        folder.claim({"key": "another"})
        folder.journal.touch()
    monkeypatch.setattr(calibrating, "check_room", refuse)
    with pytest.raises(quant.QuantError, match=r"^no room$"):
        quant.calibrate(model_folder, "fp8-dynamic", tmp_path / "out", progress=False)


def test_a_file_that_goes_away_while_room_is_measured_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    recipe = find_recipe("fp8-dynamic", "wan")
    with (
        holding(tmp_path / "out", force=False) as folder,
        pytest.raises(quant.QuantError, match=rf"^{gone}: cannot be read: No such file or directory$"),
    ):
        check_room(folder, {}, recipe, torch.bfloat16, [gone])
