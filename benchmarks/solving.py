"""Times what a recipe costs for one block of Wan 1.3B: its Hessians' matmuls, and solving its layers from them.

A random block on this machine, 32 calls of 4,096 rows for each of its inputs, as a calibration makes. A few calls are
made and timed; the others count as much time, and add their expected sum. Times are those of the process on all cores,
which a busy machine changes less. Writes benchmarks/results/solving.json, with what a block of Wan 14B would need on an
H100: reckoned, not measured.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.stages import compress_together
from quant.recipe_files import find_recipe
from quant.recipe_parts import Group

RESULTS = Path(__file__).parent / "results" / "solving.json"
CALLS, ROWS = 32, 4096

Made = TypeVar("Made")


@dataclass(frozen=True)
class Input:
    """An input of a block: its name, its channels and the output features of the layers that read it."""

    name: str
    channels: int
    features: tuple[int, ...]


def block(width: int, inner: int) -> tuple[Input, ...]:
    """The inputs of one block of a Wan transformer."""
    return (
        Input("attn1 q, k, v", width, (width,) * 3),
        Input("attn1 out", width, (width,)),
        Input("attn2 q", width, (width,)),
        Input("attn2 k, v", width, (width,) * 2),
        Input("attn2 out", width, (width,)),
        Input("ffn up", width, (inner,)),
        Input("ffn down", inner, (width,)),
    )


SMALL, LARGE = block(1536, 8960), block(5120, 13824)

#: Operations a second of an H100 SXM by its data sheet, in float32 and, on tensor cores, float64; half are counted on.
H100_FLOPS, H100_SHARE = 67e12, 0.5
#: Kernels that a column of a weight takes, and seconds to launch one.
LAUNCHES, LAUNCH_SECONDS = 6, 5e-6


def taken(run: Callable[[], Made]) -> tuple[dict[str, float], Made]:
    """The seconds that a call takes, of the processors and by the clock, and what it returns."""
    clock, used = time.perf_counter(), time.process_time()
    made = run()
    return {"cpu_seconds": time.process_time() - used, "seconds": time.perf_counter() - clock}, made


def expected(sizes: torch.Tensor) -> torch.Tensor:
    """The mean of x x^T [K, K] for independent values of these sizes, half of each added to its right neighbour."""
    squares = sizes.square()
    beside = torch.diag(0.5 * squares).roll(1, dims=1)
    return torch.diag(squares + 0.25 * squares.roll(1)) + beside + beside.T


def measure(each: Input, group: Group, timed: int) -> dict[str, Any]:
    """One input: its Hessian's matmuls, as `CALLS` of them take, and its layers."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randn(each.channels, generator=generator).exp()
    hessian = (CALLS - timed) * ROWS * expected(sizes)
    matmuls = {"cpu_seconds": 0.0, "seconds": 0.0}
    for _ in range(timed):
        values = torch.randn(ROWS, each.channels, generator=generator) * sizes
        rows = values + 0.5 * values.roll(1, dims=1)
        spent, part = taken(lambda rows=rows: rows.T @ rows)  # type: ignore[misc]
        hessian += part
        matmuls = {key: matmuls[key] + spent[key] * CALLS / timed for key in matmuls}
    weights = [0.02 * torch.randn(n, each.channels, generator=generator) for n in each.features]
    exact = hessian.double()
    solving, made = taken(lambda: list(compress_together(weights, group, InputHessian(exact))))
    return {
        "input": each.name, "channels": each.channels, "features": list(each.features), "matmuls": matmuls,
        "solving": solving, "notes": [dict(layer.notes) for layer in made],
    }  # fmt: skip


def operations(inputs: Sequence[Input]) -> dict[str, float]:
    """Floating-point operations of a block's Hessians and of solving by GPTQ, and the columns that it takes in turn."""
    hessians = sum(2 * each.channels**2 * CALLS * ROWS for each in inputs)
    factors = sum(each.channels**3 / 3 for each in inputs)
    # Elimination, and two errors of the output for the report, at K^2 for each row.
    rows = sum(3 * sum(each.features) * each.channels**2 for each in inputs)
    return {"hessians": hessians, "solving": factors + rows, "columns": sum(each.channels for each in inputs)}


def reckoned(inputs: Sequence[Input]) -> dict[str, Any]:
    """What a block would take on an H100."""
    needed, rate = operations(inputs), H100_FLOPS * H100_SHARE
    return {
        "reckoned": "by counted operations and launches; no GPU was measured",
        "operations": needed,
        "hessians_seconds": needed["hessians"] / rate,
        "solving_seconds": needed["solving"] / rate + needed["columns"] * LAUNCHES * LAUNCH_SECONDS,
        "of_which_launches": needed["columns"] * LAUNCHES * LAUNCH_SECONDS,
    }


@click.command(help=__doc__)
@click.option("--recipe", default="w4a16-gptq", show_default=True, help="Its last group's algorithm and scheme.")
@click.option("--timed", type=click.IntRange(1, CALLS), default=2, show_default=True, help="Calls that are timed.")
def main(recipe: str, timed: int) -> None:
    group = find_recipe(recipe).groups[-1]
    rows = []
    for each in SMALL:
        rows.append(measure(each, group, timed))
        matmuls, solving = (rows[-1][key]["cpu_seconds"] for key in ("matmuls", "solving"))
        click.echo(f"{each.name:14} matmuls {matmuls:7.1f} s  solving {solving:6.2f} s  {solving / matmuls:.2f}")
    total = {key: sum(row[key]["cpu_seconds"] for row in rows) for key in ("matmuls", "solving")}
    body = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "recipe": recipe, "calls": CALLS, "rows": ROWS, "timed_calls": timed,
        "cpu_seconds": total, "ratio": total["solving"] / total["matmuls"], "inputs": rows,
        "h100_wan_14b_block": reckoned(LARGE),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    click.echo(f"solving takes {body['ratio']:.3f} of the Hessians' matmuls; {RESULTS}")


if __name__ == "__main__":
    main()
