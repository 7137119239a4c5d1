"""What this device reached in this run: bytes a second of a large copy, and the best matmul of anyone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from benchmarks.gpu.entries import Spread
from benchmarks.gpu.timing import Timer, interleave

#: Far above any L2 cache; less where the device has not four times as much free.
COPY_BYTES = 2**31


def copy_bytes(free: int) -> int:
    """How much to copy on a device with so many bytes free: a multiple of a MiB."""
    return min(COPY_BYTES, free // 4) // 2**20 * 2**20


def copy_rate(timer: Timer, device: torch.device) -> float:
    """Bytes read and written a second, the median of several device-to-device copies of random bytes."""
    free = torch.cuda.mem_get_info(device)[0]
    size = copy_bytes(free)
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timed = interleave({"copy": lambda: target.copy_(source)}, timer, lambda: 0.0)
    if timed.failed:
        raise RuntimeError(f"a copy of {size} bytes failed: {timed.failed['copy']}")
    return 2 * size / Spread.of(timed.seconds["copy"]).median


def best_matmul(shapes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The largest rate by format, in floating-point (or integer) operations a second, over all timed contestants."""
    best: dict[str, float] = {}
    for shape in shapes:
        for entry in shape["contestants"]:
            if entry["seconds"] is not None:
                rate = 2 * shape["m"] * shape["n"] * shape["k"] / entry["seconds"]["median"]
                best[entry["format"]] = max(best.get(entry["format"], 0.0), rate)
    return best
