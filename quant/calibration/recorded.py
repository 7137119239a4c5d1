"""What a denoiser is run on without its pipeline: recorded calls, the files of its weights, and where they are then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from quant.calibration.calls import Calls, Place
from quant.calibration.replaying import Call, Replay
from quant.calibration.streaming import StreamedWeights
from quant.checkpoint.shards import TensorPlan


@dataclass(frozen=True)
class Recorded:
    """What a denoiser is run on, and where its weights are.

    Attributes:
        calls: in the order in which they were made.
        tensors: by their names in the model.
        dtype: of all floating tensors but those that the class keeps in float32.
        device: where blocks run and layers are solved.
    """

    calls: Sequence[Call]
    tensors: Mapping[str, TensorPlan]
    dtype: torch.dtype
    device: torch.device


def denoiser_calls(calls: Calls, component: str) -> list[Call]:
    """The recorded calls of a denoiser, each read when it begins.

    Raises:
        CalibrationError: the denoiser was not recorded.
    """
    return [Call(_name(place), partial(calls.load, place), place.timestep) for place in calls.places(component)]


def _name(place: Place) -> str:
    return f"call {place.branch + 1} of input {place.row + 1} at step {place.step + 1}"


@dataclass(frozen=True)
class Memory:
    """What is known of a device's memory: bytes that torch has given out there, and bytes that are free."""

    allocated: Callable[[], int]
    free: Callable[[], int]

    @classmethod
    def of(cls, device: torch.device) -> Memory | None:
        """That of a device with a memory of its own; None of one that uses the machine's."""
        if device.type != "cuda":
            return None
        return cls(lambda: torch.cuda.memory_allocated(device), lambda: torch.cuda.mem_get_info(device)[0])


def home_of(model: nn.Module, blocks: Sequence[str], recorded: Recorded, memory: Memory | None) -> torch.device:
    """Where calls' own tensors are: on the device where those of all calls take half of its free memory at most.

    They are on the CPU otherwise. What one call takes is measured where it waits at the first block.

    Args:
        model, blocks, recorded: as of a replay.
        memory: of the device.
    """
    device = recorded.device
    if memory is None:
        return device
    with (
        torch.no_grad(),
        StreamedWeights(model, blocks, recorded.tensors, device, device) as weights,
        Replay(model, blocks, recorded.calls[:1], arriving=lambda given: weights.moved(given, device)) as replay,
    ):
        before = memory.allocated()
        next(iter(replay)).run()
        weights.free()
        taken = memory.allocated() - before
    return device if taken * len(recorded.calls) <= memory.free() / 2 else torch.device("cpu")
