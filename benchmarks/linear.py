"""Times one quantized Linear against torch's own on this machine, as ratios within one run.

`make bench` writes benchmarks/results/linear_DEVICE.json. On a CPU it measures the reference arithmetic, which is
there to be right; its ratios say what a demo costs and nothing about a kernel.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.layers.linear_kind import LinearKind

RESULTS = Path(__file__).parent / "results"
#: (M, N, K): rows, output and input features; the middle one is a Wan 1.3B projection at 512 text tokens.
SHAPES = ((1, 1536, 1536), (512, 1536, 1536), (2048, 1536, 1536))


def seconds(run: Callable[[], object], device: str) -> float:
    """One call."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def compare(candidates: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """The median seconds of each; every round runs all of them, so that a busy moment hits all alike."""
    for run in candidates.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            taken[name].append(seconds(run, device))
    return {name: statistics.median(values) for name, values in taken.items()}


#: Schemes with a matmul of their own on a CPU.
MEASURED = ("FP8_DYNAMIC", "FP8", "W8A8")


def measure(m: int, n: int, k: int, device: str, rounds: int) -> dict[str, Any]:
    """One shape: seconds of torch's bf16 Linear and, of each scheme, how many times its time it takes."""
    torch.manual_seed(0)
    linear = nn.Linear(k, n, dtype=torch.bfloat16, device=device)
    x = torch.randn(m, k, dtype=torch.bfloat16, device=device)
    candidates: dict[str, Callable[[], object]] = {"bfloat16": lambda: linear(x)}
    for name in MEASURED:
        layer_format = LayerFormat(SCHEMES[name])
        static = torch.tensor([0.01]) if layer_format.scheme.has_static_input else None
        tensors = pack_linear(linear.weight.detach().cpu(), layer_format, input_scale=static)
        layer = LinearKind().filled(linear, layer_format, tensors, torch.device(device))
        candidates[name] = lambda layer=layer: layer(x)  # type: ignore[misc]
    with torch.no_grad():
        medians = compare(candidates, device, rounds)
    base = medians.pop("bfloat16")
    return {"m": m, "n": n, "k": k, "bf16_seconds": base, "times": {name: t / base for name, t in medians.items()}}


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True)
def main(rounds: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for m, n, k in SHAPES:
        row = measure(m, n, k, device, rounds)
        rows.append(row)
        ratios = "  ".join(f"{name} {ratio:.2f}x" for name, ratio in row["times"].items())
        click.echo(f"M {m:5} N {n} K {k}: bf16 {row['bf16_seconds'] * 1e3:8.3f} ms; time against it: {ratios}")
    machine = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    body = {"machine": machine, "python": platform.python_version(), "torch": torch.__version__, "rows": rows}
    path = RESULTS / f"linear_{device}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
