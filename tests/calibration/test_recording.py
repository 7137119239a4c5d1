"""What is recorded is what denoisers were called with, whatever the pipeline, and however often it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from torch import nn

from quant.calibration.calls import Calls, CallsWriter, Place
from quant.calibration.looking import look
from quant.calibration.recording import Recorder
from quant.checkpoint.kept_files import keep
from quant.errors import CalibrationError
from quant.pipelines.rows import Row, prompt_rows
from quant.pipelines.running import reports_steps, run_rows
from quant.pipelines.settings import GenerationSettings
from tests import tiny_pipelines
from tests.tiny_pipeline import PROMPTS, SETTINGS, pipeline, transformer

Call = tuple[Place, tuple[Any, ...], dict[str, Any], Any]
SMALL = {**SETTINGS, "num_inference_steps": 8}


def wan() -> WanPipeline:
    return pipeline(num_layers=1)


def two_experts() -> WanPipeline:
    """As Wan 2.2 has them: the second takes over below a timestep."""
    pipe = wan()
    parts = dict(pipe.components) | {"transformer_2": transformer(num_layers=1, ffn_dim=96)}
    return WanPipeline(**parts, boundary_ratio=0.7)


def recorder(pipe: Any, folder: Path, rows: list[Row], settings: dict[str, Any] = SMALL, **models: Any) -> Recorder:
    found = {name: getattr(pipe, name) for name in ("transformer", "transformer_2", "unet") if hasattr(pipe, name)}
    models = models or {name: model for name, model in found.items() if model is not None}
    return Recorder(pipe, models, rows, GenerationSettings(**settings), seed=3, folder=folder, key="key")


def watched(pipe: Any, models: dict[str, nn.Module], rows: list[Row], settings: dict[str, Any]) -> list[Call]:
    """All calls of a plain run, counted by hand, with what they returned. Modular pipelines report no steps."""
    calls: list[Call] = []
    now: dict[str, Any] = {}

    def done() -> None:
        now["step"] += 1

    def hook(name: str, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        t = float(torch.as_tensor(timestep(args, kwargs)).max())
        if not reports_steps(pipe) and now["t"] not in (None, t):
            done()
        now["t"] = t
        here = (name, now["row"], now["step"])
        branch = sum((each.component, each.row, each.step) == here for each, *_ in calls)
        calls.append((Place(*here, branch, t), args, kwargs, output))

    def timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return kwargs["timestep"] if "timestep" in kwargs else args[1]

    handles = [m.register_forward_hook(partial(hook, n), with_kwargs=True) for n, m in models.items()]
    for number, row in enumerate(rows):
        now.update(row=number, step=0, t=None)
        run_rows(pipe, [row], GenerationSettings(**settings), seed=3 + number, progress=False, on_step=done)
    for handle in handles:
        handle.remove()
    return calls


def check_against_a_run(made: Calls, pipe: Any, rows: list[Row], settings: dict[str, Any]) -> None:
    """Every recorded call, made again, gives bit for bit what the pipeline's own call gave."""
    models = {name: getattr(pipe, name) for name in made.components}
    expected = {call[0]: call for call in watched(pipe, models, rows, settings)}
    for name, model in models.items():
        for place in made.places(name):
            args, kwargs = made.load(place)
            _, _, given, output = expected[place]
            assert list(kwargs) == list(given)
            with torch.no_grad():
                again = model(*args, **kwargs)
            assert type(again) is type(output)
            assert torch.equal(again[0], output[0])


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("make", [wan, two_experts])
def test_recorded_calls_are_those_of_the_run(make: Callable[[], WanPipeline], tmp_path: Path) -> None:
    pipe, rows = make(), prompt_rows(PROMPTS)
    made = recorder(pipe, tmp_path, rows).record(4, {"seed": 3}, progress=False)
    check_against_a_run(made, pipe, rows, SMALL)
    for component in made.components:
        places = made.places(component)
        assert len({(place.row, place.step) for place in places}) == 4
        assert [place.branch for place in places] == [0, 1] * 4  # guidance makes two calls of a step
        assert places == sorted(places, key=lambda place: (place.row, place.step, place.branch))


def test_each_expert_has_its_own_steps(tmp_path: Path) -> None:
    made = recorder(two_experts(), tmp_path, prompt_rows(PROMPTS)).record(6, {}, progress=False)
    noisy, clean = ({place.timestep for place in made.places(name)} for name in ("transformer", "transformer_2"))
    assert min(noisy) >= 700 > max(clean)
    assert len(noisy) > 1 and len(clean) > 1


@pytest.mark.parametrize("kind", ["image", "video-forcing", "unet-video", "modular"])
def test_any_kind_of_pipeline(kind: str, tmp_path: Path) -> None:
    from quant.pipelines.arguments import call_arguments, class_name
    from quant.pipelines.rows import read_rows

    pipe, settings = tiny_pipelines.make(kind), tiny_pipelines.KINDS[kind].settings
    settings = {**settings, "num_inference_steps": 3}
    rows = read_rows(tiny_pipelines.table(kind, tmp_path), call_arguments(pipe), class_name(pipe))
    made = recorder(pipe, tmp_path / "calls", rows, settings).record(3, {}, progress=False)
    assert sum(len(made.places(name)) for name in made.components) >= 2
    check_against_a_run(made, pipe, rows, settings)


def test_an_input_is_run_up_to_the_last_call_that_is_recorded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipe = wan()
    made = recorder(pipe, tmp_path, prompt_rows(PROMPTS)).record(1, {})
    (place, _) = made.places("transformer")
    assert place.step == 4  # the middle of eight
    err = capfd.readouterr().err
    assert "recording 1 steps of transformer on 1 inputs" in err and "5/5" in err

    calls: list[int] = []
    handle = pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    recorder(pipe, tmp_path / "other", prompt_rows(PROMPTS)).record(1, {}, progress=False)
    handle.remove()
    # A look makes all 16 calls, of which one is computed; then those before the last recorded one.
    assert len(calls) == 16 + 2 * 4 + 1


def test_looking_computes_one_call_and_leaves_the_model_as_it_was() -> None:
    pipe, computed = two_experts(), list[str]()
    models = {"transformer": pipe.transformer, "transformer_2": pipe.transformer_2}
    for name, model in models.items():
        model.blocks[0].register_forward_hook(lambda *_, name=name: computed.append(name))
    seen = look(pipe, models, prompt_rows(PROMPTS)[1], 1, GenerationSettings(**SMALL), 3)
    assert computed == ["transformer", "transformer_2"]
    assert all("forward" not in vars(model) for model in models.values())
    assert [call[0] for call in watched(pipe, models, prompt_rows(PROMPTS), SMALL) if call[0].row == 1] == seen


class Stop(KeyboardInterrupt):
    """A kill."""


def test_a_recording_that_is_killed_at_any_file_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant.calibration import calls, recording

    pipe, rows = two_experts(), prompt_rows(PROMPTS)
    recorder(pipe, tmp_path / "whole", rows).record(3, {"seed": 3}, progress=False)
    whole = everything(tmp_path / "whole")
    left = 0

    def stop(*args: Any) -> None:
        nonlocal left
        if not left:
            raise Stop
        left -= 1
        keep(*args)

    monkeypatch.setattr(calls, "keep", stop)
    monkeypatch.setattr(recording, "keep", stop)
    kills = 0
    while True:
        left = 1
        try:
            recorder(pipe, tmp_path / "killed", rows).record(3, {"seed": 3}, progress=False)
        except Stop:
            kills += 1
            assert not (tmp_path / "killed" / "recording.json").exists()
        else:
            break
    assert kills >= 12  # the calls of three steps of two experts, two each
    assert everything(tmp_path / "killed") == whole


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    pipe, rows, calls = wan(), prompt_rows(PROMPTS), list[int]()
    recorder(pipe, tmp_path, rows).record(4, {}, progress=False)
    before = everything(tmp_path)
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    recorder(pipe, tmp_path, rows).record(4, {}, progress=False)
    assert not calls and everything(tmp_path) == before
    next((tmp_path / "calls").iterdir()).write_bytes(b"damaged")
    recorder(pipe, tmp_path, rows).record(4, {}, progress=False)
    assert calls and everything(tmp_path) == before


def test_a_pipeline_that_calls_otherwise_than_it_did_is_refused(tmp_path: Path) -> None:
    pipe, rows = wan(), prompt_rows(PROMPTS)
    made = recorder(pipe, tmp_path, rows)
    made.record(2, {}, progress=False)
    for path in (tmp_path / "calls").iterdir():
        path.unlink()
    pipe.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=8.0)
    with pytest.raises(CalibrationError, match=r"^row \d .*: the pipeline makes other calls than it made before"):
        made.record(2, {}, progress=False)


def test_a_denoiser_that_is_called_with_nan_is_named(tmp_path: Path) -> None:
    pipe = wan()
    with torch.no_grad():
        pipe.text_encoder.shared.weight.fill_(float("nan"))
    says = r"^'transformer' is called with NaN in 'hidden_states' at step 2, row \d .*; run the model in another"
    with pytest.raises(CalibrationError, match=says):
        recorder(pipe, tmp_path, prompt_rows(PROMPTS), SETTINGS).record(1, {}, progress=False)
    assert not CallsWriter(tmp_path, "key").has(Place("transformer", 0, 1, 0, 0.0))
