"""Where a block's time goes: the kernels that torch.profiler saw, as the kinds of operation of the roofline model."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.eval.bench.operations import ATTENTION, ELEMENTWISE, KINDS, MATMUL
from quant.eval.bench.timing import Run

#: Inductor names its kernels after the operations around them, so only their beginning tells what they are.
_POINTWISE = re.compile(r"triton_(?!tem_)")
#: What other kernels' names have in them, in this order: cuDNN's attention also says what its matmuls run by.
_ATTENTION = re.compile(r"flash|fmha|sdpa|attention|attn", re.IGNORECASE)
_MATMUL = re.compile(r"gemm|cutlass|nvjet|xmma|triton_tem_|_mm\b|matmul|cublas|splitk", re.IGNORECASE)
#: Categories of a trace that are the device's work.
_WORK = ("kernel", "gpu_memcpy", "gpu_memset")


def kind_of(kernel: str) -> str:
    """The kind of operation that a kernel of this name does; whatever is no matmul and no attention is element-wise."""
    if _POINTWISE.match(kernel):
        return ELEMENTWISE
    if _ATTENTION.search(kernel):
        return ATTENTION
    return MATMUL if _MATMUL.search(kernel) else ELEMENTWISE


def seconds_by_kind(trace: Mapping[str, Any], calls: int = 1) -> dict[str, float]:
    """The device's seconds in one call by kind, from a trace in Chrome's format, whose durations are microseconds.

    Args:
        trace: as torch.profiler exports it.
        calls: how many calls it holds.
    """
    found = dict.fromkeys(KINDS, 0.0)
    for event in trace["traceEvents"]:
        if event.get("cat") in _WORK:
            found[kind_of(event["name"])] += event["dur"] / 1e6 / calls
    return found


def trace(run: Run) -> Mapping[str, Any]:
    """The trace of one call on the current CUDA device."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        body: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body
