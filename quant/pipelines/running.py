"""Runs a pipeline over prompts the way it will be used: its own sampler, all timesteps, guidance included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from quant.devices import memory_lacking
from quant.errors import CalibrationError, QuantError, interrupt_within
from quant.kernels.runtime.errors import KernelError
from quant.pipelines.input_error import InputError
from quant.pipelines.settings import GenerationSettings
from quant.text import cut, first_line, shown


def run_prompts(
    pipe: Any,
    prompts: Sequence[str],
    settings: GenerationSettings,
    *,
    seed: int = 0,
    progress: bool = True,
    label: str = "",
    start: int = 0,
    on_prompt: Callable[[int], None] = lambda count: None,
) -> None:
    """Denoises every prompt once, without decoding; hooks on the denoiser see real inputs.

    Args:
        pipe: a diffusers pipeline that is called with a prompt.
        prompts: run one at a time, so that memory does not depend on how many there are.
        settings: size, steps and guidance.
        seed: prompt i starts from the latents of `torch.Generator().manual_seed(seed + i)`.
        progress: a bar over all denoising steps, with the time left, on stderr.
        label: put before what the bar says.
        start: how many prompts an earlier run has done.
        on_prompt: called with the number of prompts done after each.

    Raises:
        CalibrationError: the pipeline needs more than a prompt, or fails on one; an input that is not finite is named
            with its layer, its step and its prompt.
    """
    from tqdm import tqdm

    accepted = inspect.signature(type(pipe).__call__).parameters
    needed = [
        name
        for name, parameter in accepted.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and name not in ("self", "prompt")
    ]
    if "prompt" not in accepted or needed:
        what = f"needs '{needed[0]}'" if needed else "takes no prompt"
        raise CalibrationError(
            f"{type(pipe).__name__} {what}; calibrate it in Python: quant.quantize(pipe, recipe, forward_loop=...)"
        )
    reports_steps = "callback_on_step_end" in accepted and "num_inference_steps" in accepted
    steps = step_count(pipe, settings) if reports_steps else 1
    with (
        _own_bar_off(pipe),
        tqdm(
            total=len(prompts) * steps,
            initial=start * steps,
            desc=f"{label}calibrating on {len(prompts)} prompts" + (f", {start} done before" if start else ""),
            unit="step" if reports_steps else "prompt",
            disable=not progress,
        ) as bar,
    ):
        done = 0  # steps of the prompt that is run

        def on_step(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal done
            done += 1
            bar.update()
            return tensors

        extra: dict[str, Any] = {"callback_on_step_end": on_step} if reports_steps else {}
        for i, prompt in enumerate(prompts[start:], start):
            # A CPU generator gives the same latents on every device.
            generator = torch.Generator("cpu").manual_seed(seed + i)
            done = 0
            call = {"generator": generator, "output_type": "latent", **settings.for_pipeline(pipe), **extra}
            try:
                pipe(prompt=prompt, **call)  # by name: in an image-to-video pipeline the first argument is the image
            except InputError as error:
                at = f"at step {done + 1} of {steps}, " if reports_steps else ""
                raise error.at(f"{at}prompt {i + 1} ({shown(prompt)})") from None
            except (QuantError, KernelError):
                raise
            except Exception as error:  # a pipeline raises what its parts raise, of many kinds
                if _is_ours(error):
                    raise
                stopped = interrupt_within(error)
                if stopped is not None:
                    raise stopped from None
                what = f"{type(pipe).__name__} fails on {shown(prompt)}"
                raise CalibrationError(f"{what}: {memory_lacking(error) or cut(first_line(error), 500)}") from error
            if not reports_steps:
                bar.update()
            on_prompt(i + 1)


def _is_ours(error: Exception) -> bool:
    """Was an error raised in this library's own code, such as a hook? That is a defect; a lack of memory is none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.startswith("quant.") and module != __name__ and memory_lacking(error) is None


def step_count(pipe: Any, settings: GenerationSettings) -> int:
    """How many denoising steps a run takes.

    Raises:
        CalibrationError: neither the settings nor the pipeline's call say.
    """
    steps = settings.num_inference_steps or settings.default(type(pipe), "num_inference_steps")
    if not isinstance(steps, int):
        raise CalibrationError(f"{type(pipe).__name__} has no default number of steps; give --steps")
    return steps


@contextmanager
def _own_bar_off(pipe: Any) -> Iterator[None]:
    """Hides the pipeline's own progress bar, one a prompt, and leaves the pipeline as it was."""
    before = dict(getattr(pipe, "_progress_bar_config", None) or {})
    pipe.set_progress_bar_config(**{**before, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
