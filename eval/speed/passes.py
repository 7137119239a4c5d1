"""What measuring pipelines needs of a device, and how a call that fails leaves room for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from quant.eval.progress import Progress
from quant.eval.speed import device as devices
from quant.eval.speed import shares
from quant.eval.speed.stages import Clock, cuda_clock, host_clock
from quant.files.model_paths import DENOISERS
from quant.text import kind_and_line

T = TypeVar("T")


class Tools(NamedTuple):
    """What measuring needs of a device; tests give others.

    Attributes:
        clock: marks the borders of stages.
        compile: makes a pipeline's denoisers quick, in place.
        peak_memory: bytes at most, see `device.peak_memory`; None where that cannot be measured.
        kernels: see `shares.step_shares`.
        read: clocks and power now.
    """

    clock: Clock
    compile: Callable[[Any], None]
    peak_memory: Callable[[Callable[[], Any], Callable[[Any], object]], int] | None
    kernels: Callable[..., list[dict[str, Any]]]
    read: Callable[[torch.device], devices.Reading | None]


def tools_for(device: torch.device) -> Tools:
    """What is used on this kind of device."""
    cuda = device.type == "cuda"
    return Tools(
        clock=cuda_clock() if cuda else host_clock(),
        compile=compile_denoisers,
        peak_memory=devices.peak_memory if cuda else None,
        kernels=lambda *call: shares.step_shares(*call, cuda=cuda),
        read=devices.read_gpu,
    )


def compile_denoisers(pipeline: Any) -> None:
    """`torch.compile` on whatever runs at every step, in place; text encoder and VAE stay as they are."""
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            denoiser.compile()


def attempted(run: Callable[[], T]) -> T:
    """Runs it; where it raises, what it held is given back before anything else runs."""
    try:
        return run()
    except Exception as error:
        error.__traceback__ = None  # its frames hold the tensors of the call
        devices.release()
        raise


def reason_of(run: Callable[[], object]) -> str | None:
    """Why it failed, in a line; None where it did not."""
    try:
        attempted(run)
    except Exception as error:
        return kind_and_line(error)
    return None


def one_by_one(what: str, names: Sequence[str], progress: Progress) -> Iterator[str]:
    """The names one after the other; progress is called when each is done."""
    for index, name in enumerate(names):
        yield name
        progress(f"{what} {name}", index + 1, len(names))
