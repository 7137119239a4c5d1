"""The device that times are measured on: its name, its memory, and a GPU's clocks and power before and after."""

from __future__ import annotations

import gc
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

CPU_LABEL = "reference arithmetic on a CPU: not a kernel's time"
#: What the figure of memory is, for the results.
MEMORY = (
    "the most that torch's allocator held on the device during one call, weights included, with no other pipeline "
    "there; the CUDA context and memory that is reserved but not used are left out"
)
#: Why there is none without a GPU.
NO_MEMORY = "not measured: torch keeps no count of memory on a CPU"
#: What is asked of nvidia-smi, and how it is called in the results.
_CLOCKS = {"clocks.sm": "sm_mhz", "clocks.max.sm": "max_sm_mhz", "clocks.mem": "memory_mhz"}
_POWER = {"power.draw": "draw", "power.limit": "limit"}

#: Runs a command; its output, or None where that fails.
Ask = Callable[[Sequence[str]], str | None]
#: What a GPU reported at one moment, by nvidia-smi's names; None for what it does not report.
Reading = dict[str, float | None]


def name_of(device: torch.device) -> str:
    """The device's name as CUDA or the operating system gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_name(Path("/proc/cpuinfo")) or platform.processor() or platform.machine()


def label_of(device: torch.device, name: str) -> str:
    """What to write next to times of this device."""
    return f"measured on {name}" if device.type == "cuda" else CPU_LABEL


def ask(command: Sequence[str], timeout: float = 30) -> str | None:
    """The output of a command; None where it is not there, fails, or has not ended after `timeout` seconds."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:  # a driver that hangs must not take the times with it
        return None
    return done.stdout if done.returncode == 0 else None


def read_gpu(device: torch.device, ask: Ask = ask) -> Reading | None:
    """The GPU's clocks and power now, by nvidia-smi; None on a CPU, and where nvidia-smi is not there or fails.

    The GPU is asked for by its UUID: nvidia-smi counts all of a machine, CUDA only those that it may see.
    """
    if device.type != "cuda":
        return None
    fields = [*_CLOCKS, *_POWER]
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", "-i", uuid]
    output = ask(command)
    return None if output is None else parse_reading(output, fields)


def parse_reading(output: str, fields: Sequence[str]) -> Reading | None:
    """nvidia-smi's line of values; one that is no number ("[N/A]") is None, and so is a line of another length."""
    values = [value.strip() for value in output.strip().split(",")]
    if len(values) != len(fields):
        return None
    return {field: _number(value) for field, value in zip(fields, values, strict=True)}


def describe(device: torch.device, name: str, before: Reading | None, after: Reading | None) -> dict[str, Any]:
    """The device for the results; `clocks` (MHz) and `power_w` are None where they were not read both times."""
    found: dict[str, Any] = {"name": name, "type": device.type, "clocks": None, "power_w": None}
    if before is not None and after is not None:
        for key, names in (("clocks", _CLOCKS), ("power_w", _POWER)):
            found[key] = {
                when: {ours: reading[theirs] for theirs, ours in names.items()}
                for when, reading in (("before", before), ("after", after))
            }
    return found


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


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _cpu_name(file: Path) -> str | None:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
