"""Stages of a pipeline whose clock stands still between them, and of a real one."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from quant.eval.speed.stages import CallTimes, cuda_clock, host_clock, time_call
from tests import tiny_pipeline
from tests.eval.speed.fake_pipeline import FakePipeline, Time


def _call() -> dict[str, Any]:
    return {"prompt": ["a"], "latents": torch.ones(1, 2), "output_type": "np"}


def test_each_second_is_in_its_stage() -> None:
    time = Time()
    found = time_call(FakePipeline(time), {**_call(), "num_inference_steps": 4}, time.clock())
    assert found == CallTimes(2, None, (7, 4, 4, 4), 7, end_to_end=1 + 2 + 3 + 16 + 7 + 10)
    whole = {"input_encoder": (), "step": (7, 4, 4, 4), "vae": (7,), "end_to_end": (39,)}
    assert found.by_stage() == {"text_encoder": (2,), **whole}


def test_stages_that_run_twice_are_added_up() -> None:
    class Twice(FakePipeline):
        @wraps(FakePipeline.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> SimpleNamespace:  # type: ignore[override]
            self.encode_prompt(["negative"])
            self.vae.decode(None)
            return super().__call__(*args, **kwargs)

    time = Time()
    found = time_call(Twice(time), _call(), time.clock())
    assert (found.text_encoder, found.vae, found.steps) == (4, 14, (7, 4, 4))


def test_a_pipeline_without_these_stages() -> None:
    class Bare:
        def __call__(self, callback_on_step_end: Any, **rest: Any) -> SimpleNamespace:
            time.now += 5
            callback_on_step_end(self, 0, 0, {})
            return SimpleNamespace()

    time = Time()
    found = time_call(Bare(), {}, time.clock())
    assert found == CallTimes(None, None, (5,), None, 5)
    assert found.by_stage()["vae"] == ()


def test_the_first_step_begins_where_the_inputs_are_encoded() -> None:
    class Starts(FakePipeline):
        def encode_prompt(self, prompt: list[str]) -> str:
            found = super().encode_prompt(prompt)
            self.vae.encode(None)
            return found

    time = Time()
    pipeline = Starts(time)
    found = time_call(pipeline, _call(), time.clock())
    assert (found.text_encoder, found.input_encoder, found.steps, found.vae) == (2 + 5, 5, (7, 4, 4), 7)


def test_what_is_decoded_between_the_steps_of_two_segments_is_in_neither() -> None:
    class Segments(FakePipeline):
        @wraps(FakePipeline.__call__)
        def __call__(self, callback_on_step_end: Any, **rest: Any) -> None:  # type: ignore[override]
            for _ in range(2):
                time.now += 4
                callback_on_step_end(self, 0, 0, {})
                self.vae.decode(None)

    time = Time()
    found = time_call(Segments(time), {}, time.clock())
    assert (found.steps, found.vae, found.end_to_end) == ((4, 4), 14, 22)


def test_a_pipeline_without_a_method_for_text_is_timed_by_its_encoders() -> None:
    time = Time()

    class Part(torch.nn.Module):
        def forward(self, seconds: int) -> None:
            time.now += seconds

    class Bare:
        components: ClassVar = {
            "text_encoder": Part(),
            "text_encoder_2": Part(),
            "image_encoder": Part(),
            "transformer": Part(),
        }

        def __call__(self, callback_on_step_end: Any) -> None:
            for seconds, part in enumerate(self.components.values(), 1):
                part(seconds)
            callback_on_step_end(self, 0, 0, {})

    found = time_call(Bare(), {}, time.clock())
    assert (found.text_encoder, found.input_encoder, found.steps) == (1 + 2, 3, (4,))
    assert all("forward" not in vars(part) for part in Bare.components.values())


@pytest.mark.parametrize("fails", [False, True])
def test_the_pipeline_is_left_as_it_was(fails: bool) -> None:
    time = Time()
    pipeline = FakePipeline(time)
    pipeline.vae.decode = own = pipeline.vae.decode  # type: ignore[method-assign]
    before = dict(vars(pipeline))
    if fails:
        with pytest.raises(TypeError):
            time_call(pipeline, {**_call(), "no_such_argument": 1}, time.clock())
    else:
        time_call(pipeline, _call(), time.clock())
    assert vars(pipeline) == before
    assert vars(pipeline.vae)["decode"] is own


def test_a_real_pipeline_has_all_stages_within_the_whole() -> None:
    pipeline = tiny_pipeline.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    call = {**tiny_pipeline.SETTINGS, "num_inference_steps": 3, "prompt": "snow", "output_type": "np"}
    found = time_call(pipeline, call, host_clock())
    assert found.text_encoder is not None and found.text_encoder > 0
    assert found.vae is not None and found.vae > 0
    assert len(found.steps) == 3 and min(found.steps) > 0
    assert found.text_encoder + sum(found.steps) + found.vae < found.end_to_end
    assert not {"encode_prompt", "decode"} & {*vars(pipeline), *vars(pipeline.vae)}


def test_a_gpus_borders_are_events_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.name = str(len(done))

        def record(self) -> None:
            done.append(f"record {self.name}")

        def synchronize(self) -> None:
            done.append(f"wait for {self.name}")

        def elapsed_time(self, end: Event) -> float:
            assert done[-1] == f"wait for {end.name}"
            return 12.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    clock = cuda_clock()
    begin, end = clock.mark(), clock.mark()
    assert done == ["record 0", "record 1"]
    assert clock.between(begin, end) == 0.0125
    assert done[2:] == ["wait for 1"]
