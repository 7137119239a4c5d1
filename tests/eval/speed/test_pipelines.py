"""Whole pipelines: closed forms by a clock that they move themselves, failures, and two real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest
import torch

from quant.eval.speed.device import CPU_LABEL
from quant.eval.speed.passes import Tools
from quant.eval.speed.pipelines import time_pipelines
from tests import tiny_pipeline
from tests.eval.speed.fake_pipeline import FakePipeline, Time

LATENTS = torch.arange(4.0).reshape(2, 2)


def _call(at: int, _pipeline: Any) -> dict[str, Any]:
    return {
        "prompt": ["ab"[at]],
        "latents": LATENTS[at : at + 1].clone(),
        "output_type": "np",
        "num_inference_steps": 2,
    }


CALLS = [partial(_call, 0), partial(_call, 1)]


def _tools(time: Time, **changes: Any) -> Tools:
    def nothing(*_: Any) -> None:
        return None

    return Tools(time.clock(), nothing, None, lambda *_: [], nothing)._replace(**changes)


def _time(made: dict[str, Any], time: Time, **more: Any) -> dict[str, Any]:
    loaders: dict[str, Callable[[], Any]] = {name: (lambda pipe=pipe: pipe) for name, pipe in made.items()}  # type: ignore[misc]
    more.setdefault("tools", _tools(time))
    found = time_pipelines(loaders, CALLS, settings={"num_inference_steps": 2}, **more)
    return json.loads(json.dumps(found, allow_nan=False))  # type: ignore[no-any-return]


def test_closed_forms() -> None:
    time = Time()
    found = _time({"original": FakePipeline(time), "half": FakePipeline(time, 0.5)}, time, rounds=3)
    stages = found["models"]["original"]["stages"]
    assert stages["text_encoder"]["seconds"] == [2] * 3
    assert stages["step"]["seconds"] == [7, 4] * 3
    assert stages["vae"]["seconds"] == [7] * 3
    assert stages["end_to_end"] == {"median": 31, "p90": 31, "cv": 0, "n": 3, "seconds": [31] * 3}
    assert found["models"]["half"]["stages"]["step"] == {
        "median": 3.5,
        "p90": 5,
        "cv": pytest.approx((2.7) ** 0.5 / 3.5),
        "n": 6,
        "seconds": [5, 2] * 3,
    }
    assert found["models"]["half"]["first_call_s"] == 27
    assert list(found["models"]) == ["original", "half"]
    assert (found["rounds"], found["compiled"], found["format_version"]) == (3, False, 1)
    assert found["settings"] == {"num_inference_steps": 2}


def test_every_round_runs_all_with_one_prompt_and_noise() -> None:
    time, order = Time(), list[str]()

    class Noted(FakePipeline):
        def __init__(self, name: str) -> None:
            super().__init__(time)
            self.name = name

        @wraps(FakePipeline.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            order.append(self.name)
            return super().__call__(*args, **kwargs)

    made = {name: Noted(name) for name in "xyz"}
    told: list[tuple[str, int, int]] = []
    _time(made, time, rounds=8, progress=lambda *what: told.append(what))
    rounds = [order[start : start + 3] for start in range(3, 27, 3)]
    assert order[:3] == ["x", "y", "z"]
    assert all(sorted(each) == ["x", "y", "z"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    for pipe in made.values():
        assert [prompt for prompt, _ in pipe.calls] == ["a", *["a", "b"] * 4]
        for prompt, latents in pipe.calls:
            assert torch.equal(latents, LATENTS["ab".index(prompt)][None])
    assert [what for what in told if what[0].startswith("timing")][-1][1:] == (24, 24)


def test_compilation_is_the_first_call_less_a_later_one() -> None:
    time, compiled = Time(), list[Any]()

    class Compiling(FakePipeline):
        @wraps(FakePipeline.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            self.time.now += 100 if not self.calls and self in compiled else 0
            return super().__call__(*args, **kwargs)

    pipe = Compiling(time)
    found = _time({"original": pipe}, time, compiled=True, tools=_tools(time, compile=compiled.append))
    assert compiled == [pipe]
    model = found["models"]["original"]
    assert (model["first_call_s"], model["compile_s"]) == (131, 100)
    assert model["stages"]["end_to_end"]["median"] == 31
    assert found["compiled"] is True


@pytest.mark.parametrize(("good_calls", "reason"), [(0, "first call: RuntimeError: out"), (3, "RuntimeError: out")])
def test_one_that_fails_takes_no_other_with_it(good_calls: int, reason: str) -> None:
    class Failing(FakePipeline):
        @wraps(FakePipeline.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            if len(self.calls) >= good_calls:
                raise RuntimeError("out\nof memory")
            return super().__call__(*args, **kwargs)

    time = Time()
    found = _time({"original": FakePipeline(time), "big": Failing(time)}, time)["models"]
    assert found["big"]["failed"] == reason
    assert found["big"]["stages"] is None
    assert found["big"]["first_call_s"] == (31 if good_calls else None)
    assert found["original"]["failed"] is None
    assert found["original"]["stages"]["end_to_end"]["n"] == 5


def test_one_that_cannot_be_loaded_is_recorded() -> None:
    def fails() -> Any:
        raise ValueError("no such folder")

    time = Time()
    for others in ({}, {"good": lambda: FakePipeline(time)}):
        found = time_pipelines({"bad": fails, **others}, CALLS, tools=_tools(time))
        assert found["models"]["bad"]["failed"] == "loading: ValueError: no such folder"
        assert all(found["models"][name]["failed"] is None for name in others)


def test_other_passes_have_nothing_to_do_with_times() -> None:
    time = Time()
    made = {"original": FakePipeline(time), "w8a8": FakePipeline(time)}

    def kernels(pipeline: Any, call: Any) -> list[dict[str, Any]]:
        if pipeline is made["w8a8"]:
            raise RuntimeError("no profiler")
        assert (call["prompt"], call["latents"].shape) == (["a"], (1, 2))
        return [{"name": "gemm", "share": 1.0}]

    def weigh(load: Callable[[], Any], run: Callable[[Any], object]) -> int:
        pipeline = load()
        before = len(pipeline.calls)
        run(pipeline)
        assert len(pipeline.calls) == before + 1
        return 100 if pipeline is made["original"] else 60

    models = _time(made, time, tools=_tools(time, kernels=kernels, peak_memory=weigh))["models"]
    assert models["original"]["kernels"] == [{"name": "gemm", "share": 1.0}]
    assert models["original"]["peak_memory_bytes"] == 100
    assert models["w8a8"]["peak_memory_bytes"] == 60
    assert (models["w8a8"]["kernels"], models["w8a8"]["failed"]) == (None, None)
    assert models["w8a8"]["notes"] == ["kernels: RuntimeError: no profiler"]
    assert models["w8a8"]["stages"] == models["original"]["stages"]


def test_a_pipeline_whose_steps_are_not_seen_has_the_other_stages_and_a_note() -> None:
    class Silent(FakePipeline):
        def __call__(self, prompt: list[str], latents: torch.Tensor, **rest: Any) -> Any:  # type: ignore[override]
            return super().__call__(prompt, latents, "np")

    time = Time()
    found = _time({"original": Silent(time)}, time)["models"]["original"]
    assert list(found["stages"]) == ["text_encoder", "vae", "end_to_end"]
    (note,) = found["notes"]
    assert note.startswith("steps: the pipeline does not report them")


def test_two_real_pipelines_on_a_cpu() -> None:
    def load() -> Any:
        pipeline = tiny_pipeline.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def call(prompt: str, _pipeline: Any) -> dict[str, Any]:
        return {**tiny_pipeline.SETTINGS, "prompt": prompt, "output_type": "np"}

    loaders = {"original": load, "other": load}
    found = time_pipelines(loaders, [partial(call, prompt) for prompt in tiny_pipeline.PROMPTS], rounds=3)
    json.dumps(found, allow_nan=False)
    assert found["device"]["type"] == "cpu" and found["device"]["name"]
    assert (found["device"]["clocks"], found["device"]["power_w"]) == (None, None)
    assert found["label"] == CPU_LABEL
    assert found["attention"] == "FLASH_ATTENTION > EFFICIENT_ATTENTION > MATH"
    assert "no count of memory" in found["what"]["peak_memory_bytes"]
    assert "no kernels" in found["what"]["kernels"]
    for model in found["models"].values():
        stages = {name: stage["seconds"] for name, stage in model["stages"].items()}
        assert {name: len(seconds) for name, seconds in stages.items()} == {
            "text_encoder": 3,
            "step": 3 * tiny_pipeline.SETTINGS["num_inference_steps"],
            "vae": 3,
            "end_to_end": 3,
        }
        assert min(min(seconds) for seconds in stages.values()) > 0
        assert sum(sum(stages[name]) for name in ("text_encoder", "step", "vae")) < sum(stages["end_to_end"])
        assert (model["peak_memory_bytes"], model["compile_s"], model["failed"]) == (None, None, None)
        assert sum(each["share"] for each in model["kernels"]) == pytest.approx(1)


@pytest.mark.parametrize(("calls", "rounds", "message"), [([], 1, "at least one call"), (CALLS, 0, "rounds 0")])
def test_what_cannot_be_timed(calls: list[Any], rounds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_pipelines({}, calls, rounds=rounds)
