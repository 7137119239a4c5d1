"""What the measurements were made on: device, driver, libraries, commit; null for what this machine can't tell."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from quant.kernels.runtime import nvrtc
from quant.kernels.runtime.errors import KernelError

ROOT = Path(__file__).parents[2]
#: What nvidia-smi is asked for, with the names it has in the results.
CLOCKS = {
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "clocks.max.sm": "sm_max_mhz",
    "temperature.gpu": "celsius",
    "power.draw": "watts",
    "power.limit": "watts_limit",
}

#: Runs a command and returns what it printed; None where it is absent or failed.
Ask = Callable[[Sequence[str]], str | None]


def ask(command: Sequence[str]) -> str | None:
    """The standard output of a command, None where it cannot run, fails, or takes over 20 seconds."""
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout


def slug(name: str) -> str:
    """A GPU's name as a part of a file's: "NVIDIA H100 80GB HBM3" is nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def commit(run: Ask = ask) -> dict[str, Any]:
    """`commit` and whether anything differs from it, `dirty`; both null outside a git repository."""
    head = run(["git", "rev-parse", "HEAD"])
    status = run(["git", "status", "--porcelain"])
    if head is None or status is None:
        return {"commit": None, "dirty": None}
    return {"commit": head.strip(), "dirty": bool(status.strip())}


def clocks(uuid: str | None, run: Ask = ask) -> dict[str, float | None] | None:
    """Clocks, temperature and power now; None without nvidia-smi. Nothing is set, only read.

    Args:
        uuid: of the device, "GPU-..."; None for the first one.
        run: runs the command.
    """
    which = ["-i", uuid or "0"]
    said = run(["nvidia-smi", *which, f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader,nounits"])
    values = [] if said is None else [value.strip() for value in said.strip().split(",")]
    if len(values) != len(CLOCKS):
        return None
    return {name: _number(value) for name, value in zip(CLOCKS.values(), values, strict=True)}


def gather(device: torch.device, run: Ask = ask) -> dict[str, Any]:
    """Everything about `device` and the software, as plain data."""
    found = torch.cuda.get_device_properties(device)
    uuid = f"GPU-{found.uuid}" if hasattr(found, "uuid") else None
    driver = run(["nvidia-smi", "-i", uuid or "0", "--query-gpu=driver_version", "--format=csv,noheader"])
    return {
        "device": {
            "name": found.name,
            "uuid": uuid,
            "capability": [found.major, found.minor],
            "multiprocessors": found.multi_processor_count,
            "memory_bytes": found.total_memory,
            "l2_bytes": found.L2_cache_size,
        },
        "driver": None if driver is None else driver.strip(),
        "cuda_runtime": torch.version.cuda,
        "nvrtc": _nvrtc(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "triton", "torchao", "sdnq", "diffusers")},
        "cupy": next((v for v in map(_version, ("cupy-cuda13x", "cupy-cuda12x", "cupy")) if v is not None), None),
        **commit(run),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None


def _nvrtc() -> str | None:
    try:
        return "{}.{}".format(*nvrtc.version())
    except KernelError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
