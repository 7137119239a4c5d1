from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from quant.algorithms.base import Needs
from quant.calibration.statistics import collect
from quant.devices import memory_lacking
from quant.errors import CalibrationError, ModelError
from quant.pipelines.rows import prompt_rows
from quant.pipelines.running import own_bar_off, run_rows
from quant.pipelines.settings import GenerationSettings
from tests import tiny_pipelines

OnStep = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]


class Base:
    """What diffusers gives every pipeline; records how it is called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error = error
        self.bars_off: list[bool] = []
        self._progress_bar_config: dict[str, Any] = {"leave": True}

    def set_progress_bar_config(self, **config: Any) -> None:
        self._progress_bar_config = config

    def record(self, **call: Any) -> None:
        self.calls.append(call)
        self.bars_off.append(self._progress_bar_config.get("disable", False))
        if self.error is not None:
            raise self.error


class Pipe(Base):
    """A text-to-video pipeline with an optional image first, as LTX's image-to-video has it."""

    def __call__(
        self,
        image: Any = None,
        prompt: str | None = None,
        height: int = 8,
        num_inference_steps: int = 3,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        callback_on_step_end: OnStep | None = None,
    ) -> None:
        assert generator is not None and callback_on_step_end is not None
        noise = torch.randn(2, generator=generator)
        self.record(image=image, prompt=prompt, height=height, steps=num_inference_steps, noise=noise, out=output_type)
        for step in range(num_inference_steps):
            tensors = {"latents": noise}
            assert callback_on_step_end(self, step, 0, tensors) is tensors


class Silent(Base):
    """A pipeline that neither reports steps nor has a number of them."""

    def __call__(self, prompt: str, generator: Any = None, output_type: str = "pil") -> None:
        self.record(prompt=prompt, out=output_type)


class NeedsImage(Base):
    def __call__(self, image: Any, prompt: str = "") -> None: ...


class NeedsKeyword(Base):
    def __call__(self, prompt: str = "", *, depth: Any) -> None: ...


class NoPrompt(Base):
    def __call__(self, image: Any = None, **rest: Any) -> None: ...


def _run(pipe: Base, prompts: list[str], *, seed: int = 0, progress: bool = False, **settings: Any) -> None:
    run_rows(pipe, prompt_rows(prompts), GenerationSettings(**settings), seed=seed, progress=progress)


def test_each_prompt_is_run_once_in_order_without_decoding() -> None:
    pipe = Pipe()
    _run(pipe, ["a", "b", "c"], height=16, num_inference_steps=2)
    assert [call["prompt"] for call in pipe.calls] == ["a", "b", "c"]
    assert {(call["image"], call["height"], call["steps"], call["out"]) for call in pipe.calls} == {
        (None, 16, 2, "latent")
    }


def test_settings_that_are_not_given_are_the_pipelines_own() -> None:
    pipe = Pipe()
    _run(pipe, ["a"])
    assert (pipe.calls[0]["height"], pipe.calls[0]["steps"]) == (8, 3)


def test_each_prompt_has_its_own_seed_whatever_ran_before() -> None:
    pipe = Pipe()
    _run(pipe, ["a", "b"], seed=7)
    for i, call in enumerate(pipe.calls):
        assert torch.equal(call["noise"], torch.randn(2, generator=torch.Generator().manual_seed(7 + i)))


def test_a_pipeline_that_reports_no_steps_is_run_too() -> None:
    pipe = Silent()
    _run(pipe, ["a", "b"])
    assert pipe.calls == [{"prompt": "a", "out": "latent"}, {"prompt": "b", "out": "latent"}]


@pytest.mark.parametrize(("pipe", "total"), [(Pipe(), "6/6"), (Silent(), "2/2")])
def test_progress_counts_steps_or_else_prompts(pipe: Base, total: str, capfd: pytest.CaptureFixture[str]) -> None:
    _run(pipe, ["a", "b"], progress=True)
    out, err = capfd.readouterr()
    assert "calibrating on 2 prompts" in err and total in err
    assert out == ""


def test_without_progress_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    _run(Pipe(), ["a"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [None, RuntimeError("x")])
def test_the_pipelines_own_bar_is_hidden_and_given_back(error: Exception | None) -> None:
    pipe = Pipe(error)
    try:
        _run(pipe, ["a"])
    except CalibrationError:
        assert error is not None
    assert pipe.bars_off == [True]
    assert pipe._progress_bar_config == {"leave": True}


@pytest.mark.parametrize(
    ("pipe", "what"),
    [
        (NeedsImage(), "needs 'image': give a table with that column, --inputs FILE"),
        (NeedsKeyword(), "needs 'depth': give a table"),
        (NoPrompt(), "takes no 'prompt'; its call takes image"),
    ],
)
def test_a_pipeline_that_a_prompt_alone_cannot_run_is_an_error(pipe: Base, what: str) -> None:
    with pytest.raises(CalibrationError, match=f"^{type(pipe).__name__} {what}"):
        _run(pipe, ["a"])
    assert pipe.calls == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("height must be even\nmore"), "height must be even"),
        (RuntimeError(""), "RuntimeError"),
        (TypeError("no"), "no"),
        (KeyError("sample"), "KeyError: 'sample'"),
        (AssertionError(), "AssertionError"),
        (NotImplementedError("no kernel"), "no kernel"),
        (MemoryError(), memory_lacking(MemoryError())),
    ],
)
def test_a_failing_prompt_is_named_in_one_line(error: Exception, reason: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        _run(Pipe(error), ["a cat", "a dog"])
    assert str(caught.value) == f"Pipe fails on row 1 ('a cat'): {reason}"
    assert caught.value.__cause__ is error


def test_a_defect_of_this_library_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of ours that fails within the pipeline's call is no fault of the pipeline or the prompt."""
    pipe = Pipe(ValueError("a defect"))
    monkeypatch.setitem(Pipe.__call__.__globals__, "__name__", "quant.calibration.statistics")
    with pytest.raises(ValueError, match="a defect"):
        _run(pipe, ["a cat"])


def test_errors_that_name_their_cause_already_pass_through() -> None:
    error = CalibrationError("layer 'x': its input holds NaN")
    with pytest.raises(CalibrationError) as caught:
        _run(Pipe(error), ["a"])
    assert caught.value is error


def test_an_interrupt_within_a_class_that_is_made_is_one() -> None:
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        _run(Pipe(error), ["a"])


def test_a_setting_that_the_pipeline_does_not_take_is_an_error() -> None:
    with pytest.raises(ModelError, match="Pipe takes no 'num_frames'"):
        _run(Pipe(), ["a"], num_frames=5)


class Denoiser(nn.Module):
    """Gives its first layer NaN in one call of all."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.proj, self.calls, self.bad = nn.Linear(2, 2), 0, bad

    def forward(self, x: torch.Tensor) -> None:
        self.calls += 1
        self.proj(x / 0 * 0 if self.calls == self.bad else x)


class Denoising(Base):
    """A pipeline that calls its denoiser."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.transformer = Denoiser(bad)


class Stepwise(Denoising):
    """Twice a step, as guidance does."""

    def __call__(
        self,
        prompt: str,
        num_inference_steps: int = 4,
        generator: Any = None,
        output_type: str = "pil",
        callback_on_step_end: OnStep | None = None,
    ) -> None:
        for step in range(num_inference_steps):
            for _ in range(2):
                self.transformer(torch.ones(3, 2))
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, 0, {})


class Stepless(Denoising):
    def __call__(self, prompt: str, generator: Any = None, output_type: str = "pil") -> None:
        self.transformer(torch.ones(3, 2))


@pytest.mark.parametrize(
    ("pipe", "where"),
    [
        (Stepwise(bad=8 + 2 * 2 + 2), r"at step 3 of 4, row 2 \('a blue bird'\)"),
        (Stepwise(bad=1), r"at step 1 of 4, row 1 \('a red fox'\)"),
        (Stepless(bad=2), r"row 2 \('a blue bird'\)"),
    ],
)
def test_an_input_that_is_not_finite_is_named_with_its_step_and_prompt(pipe: Denoising, where: str) -> None:
    def forward() -> None:
        _run(pipe, ["a red fox", "a blue bird"])

    with pytest.raises(CalibrationError, match=f"^layer 'proj': its input holds NaN {where}; run the model in"):
        collect(pipe.transformer, {"proj": Needs(amax=True)}, forward, rows=1, seed=0)


def test_bars_of_a_modular_pipelines_inner_blocks_are_hidden_too(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tiny_pipelines.make("modular")
    call = {"prompt": "snow", "height": 16, "width": 16, "num_frames": 5, "num_inference_steps": 1}
    with own_bar_off(pipe):
        pipe(**call)
    assert "it/s" not in capsys.readouterr().err
    pipe(**call)
    assert "1/1" in capsys.readouterr().err
