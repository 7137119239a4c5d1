"""Runs a pipeline over inputs the way it will be used: its own sampler, all timesteps, guidance included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from quant.devices import memory_lacking
from quant.errors import CalibrationError, QuantError, interrupt_within
from quant.files.data_sets import unlogged
from quant.kernels.runtime.errors import KernelError
from quant.pipelines.arguments import call_arguments, class_name, is_modular
from quant.pipelines.input_error import InputError
from quant.pipelines.rows import Row, call_of, check_row
from quant.pipelines.settings import GenerationSettings
from quant.text import cut, first_line


def run_rows(
    pipe: Any,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    seed: int = 0,
    progress: bool = True,
    label: str = "",
    start: int = 0,
    on_row: Callable[[int], None] = lambda count: None,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Denoises every row of inputs once, without decoding; hooks on the denoiser see real inputs.

    Args:
        pipe: a diffusers pipeline.
        rows: run one at a time, so that memory does not depend on how many there are.
        settings: what all calls get, such as size, steps and guidance.
        seed: row i starts from the latents of `torch.Generator().manual_seed(seed + i)`.
        progress: a bar over all denoising steps, with the time left, on stderr.
        label: put before what the bar says.
        start: how many rows an earlier run has done.
        on_row: called with the number of rows done after each.
        on_step: called after each denoising step, of pipelines that report them.

    Raises:
        CalibrationError: the pipeline needs what a row has not, or fails on one; an input that is not finite is named
            with its layer, its step and its row.
        ModelError: a setting that the pipeline does not take.
    """
    from tqdm import tqdm

    arguments, name = call_arguments(pipe), class_name(pipe)
    for row in rows:
        check_row(row, arguments, name, settings)
    reported = reports_steps(pipe)
    steps = step_count(pipe, settings) if reported else 1
    what = "prompts" if all(row.is_prompt for row in rows) else "inputs"
    with (
        own_bar_off(pipe),
        unlogged("diffusers.modular_pipelines"),  # an error of a block is logged with its trace, and raised
        tqdm(
            total=len(rows) * steps,
            initial=start * steps,
            desc=f"{label}calibrating on {len(rows)} {what}" + (f", {start} done before" if start else ""),
            unit="step" if reported else what[:-1],
            disable=not progress,
        ) as bar,
    ):
        done = 0  # steps of the row that is run

        def step_done(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal done
            done += 1
            bar.update(int(done <= steps))  # a pipeline that makes a clip in parts runs them all for each
            on_step()
            return tensors

        # Of what a run needs, each pipeline is given what it takes. The blocks of modular ones always decode.
        ours: dict[str, Any] = {} if is_modular(pipe) else {"output_type": "latent"}
        if reported:
            ours["callback_on_step_end"] = step_done
        for i, row in enumerate(rows[start:], start):
            # A CPU generator gives the same latents on every device.
            ours["generator"] = torch.Generator("cpu").manual_seed(seed + i)
            done = 0
            try:
                call = call_of(row, pipe, settings)
            except CalibrationError as error:  # of a file
                raise CalibrationError(f"{row}: {error}") from None
            try:
                with failing(f"{name} fails on {row}"):
                    # By name: in an image-to-video pipeline the first argument is the image.
                    pipe(**call, **{key: value for key, value in ours.items() if key in arguments})
            except InputError as error:
                at = f"at step {done + 1} of {steps}, " if reported else ""
                raise error.at(f"{at}{row}") from None
            bar.update(max(0, steps - done))  # of video-to-video, only the last steps are run
            on_row(i + 1)


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Within it, what a model or a pipeline raises, of many kinds, becomes a line of a CalibrationError.

    Not so an error of this library, an interrupt, or an error raised in this library's own code, which is a defect.

    Args:
        what: what fails and on which input.
    """
    try:
        yield
    except (QuantError, KernelError):
        raise
    except Exception as error:
        if _is_ours(error):
            raise
        stopped = interrupt_within(error)
        if stopped is not None:
            raise stopped from None
        raise CalibrationError(f"{what}: {memory_lacking(error) or cut(first_line(error), 500)}") from error


def _is_ours(error: Exception) -> bool:
    """Was an error raised in this library's own code, such as a hook? That is a defect; a lack of memory is none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.startswith("quant.") and module != __name__ and memory_lacking(error) is None


def reports_steps(pipe: Any) -> bool:
    """Does a pipeline say when a denoising step is done?"""
    return {"callback_on_step_end", "num_inference_steps"} <= set(call_arguments(pipe))


def step_count(pipe: Any, settings: GenerationSettings) -> int:
    """How many denoising steps a run takes.

    Raises:
        CalibrationError: neither the settings nor the pipeline's call say.
    """
    steps = settings.get("num_inference_steps") or settings.default(pipe, "num_inference_steps")
    if not isinstance(steps, int):
        raise CalibrationError(f"{type(pipe).__name__} has no default number of steps; give --steps")
    return steps


@contextmanager
def own_bar_off(pipe: Any) -> Iterator[None]:
    """Hides the pipeline's own progress bars, one a call, and leaves the pipeline as it was."""
    drawing = list(_drawing(pipe))
    before = [dict(getattr(each, "_progress_bar_config", None) or {}) for each in drawing]
    for each, config in zip(drawing, before, strict=True):
        each.set_progress_bar_config(**{**config, "disable": True})
    try:
        yield
    finally:
        for each, config in zip(drawing, before, strict=True):
            each.set_progress_bar_config(**config)


def _drawing(pipe: Any) -> Iterator[Any]:
    """What draws bars: a pipeline, or the blocks of a modular one at any depth, of which it reaches the outermost."""
    if is_modular(pipe):
        yield from (block for block in _blocks(pipe._blocks) if hasattr(block, "set_progress_bar_config"))
    else:
        yield pipe


def _blocks(block: Any) -> Iterator[Any]:
    for each in getattr(block, "sub_blocks", {}).values():
        yield each
        yield from _blocks(each)
