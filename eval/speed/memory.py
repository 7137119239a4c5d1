"""The most memory that one pipeline holds, in a pass of its own: alone on the device, and not timed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

#: What the figure is, for the results.
WHAT = (
    "the most that torch's allocator held on the device during one call, weights included, with no other pipeline "
    "there; the CUDA context and memory that is reserved but not used are left out"
)
#: Why there is none without a GPU.
WHY_NOT = "not measured: torch keeps no count of memory on a CPU"


def peak_memory(load: Callable[[], Any], run: Callable[[Any], object]) -> int:
    """Bytes on the current CUDA device at most, while one pipeline makes a video.

    What was there before the pipeline was loaded is taken off; what only loading needed is not counted.

    Args:
        load: makes the pipeline.
        run: calls it.
    """
    release()
    before = torch.cuda.memory_allocated()
    pipeline = load()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run(pipeline)
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def release() -> None:
    """Gives memory of what is no longer used back, so that a pipeline that ran out of it leaves room for others."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
