"""Measures calibration block by block: peak memory, and time as a ratio to the forward passes of the calls alone.

`python -m benchmarks.calibration` writes benchmarks/results/calibration.json. For each depth a Wan transformer of
random weights is written to a folder, and programs of their own run the same calls through it: whole, and block by
block with statistics and solutions. What is reported of memory is the peak of each beyond what importing takes. Times
are those of the process on all cores, which a busy machine changes less; all is in float32, in which a CPU does the
passes and the Hessians' matmuls at one speed.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from quant.calibration.block_solving import solve_by_block
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import layer_plan
from quant.calibration.recorded import Recorded
from quant.calibration.replaying import Call
from quant.calibration.solving import Found
from quant.calibration.statistics import Collector
from quant.pipelines.inputs.table import open_files
from quant.recipe_files import find_recipe

RESULTS = Path(__file__).parent / "results" / "calibration.json"
HEAD = 64


@dataclass(frozen=True)
class Sizes:
    """Of the model and its calls.

    Attributes:
        heads: of attention, each of 64 channels.
        ffn: channels of the feed-forward network.
        tokens: of a call, a multiple of 16.
        calls: how many.
    """

    heads: int
    ffn: int
    tokens: int
    calls: int


@dataclass(frozen=True)
class Run:
    """One program.

    Attributes:
        seconds: of the processors, all but importing, statistics and solving.
        statistics: the same of looking at inputs, Hessians' matmuls included.
        solving: the same of solving.
        peak_bytes: of resident memory, beyond what importing takes.
    """

    seconds: float
    statistics: float
    solving: float
    peak_bytes: int


def make_model(folder: Path, depth: int, sizes: Sizes) -> int:
    """Writes a transformer of so many blocks; returns the bytes of one block."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=sizes.heads,
        attention_head_dim=HEAD,
        in_channels=16,
        out_channels=16,
        text_dim=256,
        freq_dim=256,
        ffn_dim=sizes.ffn,
        num_layers=depth,
    )
    model.save_pretrained(folder)
    return sum(parameter.nbytes for parameter in model.blocks[0].parameters())


def _arguments(sizes: Sizes, number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(number)
    # Patches are 1 x 2 x 2: a frame of 8 x 8 latents is 16 tokens.
    latents = torch.randn(1, 16, sizes.tokens // 16, 8, 8, generator=generator)
    text = torch.randn(1, 64, 256, generator=generator)
    return (), {
        "hidden_states": latents,
        "timestep": torch.tensor([1000 - 1000 * number // sizes.calls]),
        "encoder_hidden_states": text,
        "return_dict": False,
    }


def whole(folder: Path, sizes: Sizes, recipe: str) -> tuple[float, float]:
    """Loads the model and runs all calls; returns seconds of statistics and of solving, which are none."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.float32)
    with torch.no_grad():
        for number in range(sizes.calls):
            args, kwargs = _arguments(sizes, number)
            model(*args, **kwargs)
    return 0.0, 0.0


def _timed(of: type, method: str) -> Callable[[], float]:
    """Times a method from now on; returns what knows its seconds so far."""
    run, spent = getattr(of, method), 0.0

    def timed(*given: Any) -> None:
        nonlocal spent
        started = time.process_time()
        run(*given)
        spent += time.process_time() - started

    setattr(of, method, timed)
    return lambda: spent


def by_block(folder: Path, sizes: Sizes, recipe: str) -> tuple[float, float]:
    """Calibrates from the calls; returns seconds of statistics and of solving."""
    statistics, solved = _timed(Collector, "see"), _timed(Found, "solve")
    chosen, component = find_recipe(recipe, "wan"), open_files(folder)
    calls = [Call(f"call {number}", partial(_arguments, sizes, number)) for number in range(sizes.calls)]
    recorded = Recorded(calls, component.tensors(torch.float32), torch.float32, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as kept:
        solve_by_block(
            {"transformer": component.model},
            {"transformer": layer_plan(component.model, chosen)},
            chosen,
            {"transformer": recorded},
            KeptSolutions(Path(kept), "benchmark"),
        )
    return statistics(), solved()


WAYS: dict[str, Callable[[Path, Sizes, str], tuple[float, float]]] = {"whole": whole, "by_block": by_block}


def peak() -> int:
    """The largest resident memory of this program so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def child(way: str, folder: str, sizes: str, recipe: str) -> None:
    """Runs one way and prints its figures as JSON."""
    import accelerate
    import diffusers
    import modelopt.torch.quantization.calib as calib

    for each in (accelerate, diffusers.WanTransformer3DModel, calib):
        assert each is not None  # what either way imports is no part of its time
    before, started = peak(), time.process_time()
    statistics, solving = WAYS[way](Path(folder), Sizes(**json.loads(sizes)), recipe)
    run = Run(time.process_time() - started - statistics - solving, statistics, solving, peak() - before)
    print(json.dumps(asdict(run)))


def measured(way: str, folder: Path, sizes: Sizes, recipe: str) -> Run:
    """One way as a program of its own. Raises ClickException with its words where it fails."""
    given = ["child", way, str(folder), json.dumps(asdict(sizes)), recipe]
    done = subprocess.run([sys.executable, "-m", "benchmarks.calibration", *given], capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{way} ends with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


@click.command()
@click.option("--depths", default="6,12,24", show_default=True, help="Blocks of each model.")
@click.option("--heads", default=12, show_default=True, help="Of 64 channels each.")
@click.option("--ffn", default=4096, show_default=True, help="Channels of the feed-forward network.")
@click.option("--tokens", default=512, show_default=True, help="Of a call.")
@click.option("--calls", default=4, show_default=True)
@click.option("--recipe", default="w8a8-gptq", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(depths: str, heads: int, ffn: int, tokens: int, calls: int, recipe: str, out: Path) -> None:
    """Measure and write the results."""
    sizes, rows = Sizes(heads, ffn, tokens, calls), []
    for depth in map(int, depths.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            block = make_model(Path(folder), depth, sizes)
            forward, replay = (measured(way, Path(folder), sizes, recipe) for way in WAYS)
        ratio = replay.seconds / forward.seconds
        rows.append({"blocks": depth, "block_bytes": block, "whole": asdict(forward), "by_block": asdict(replay)})
        click.echo(
            f"{depth:3} blocks of {block / 1e6:.1f} MB: {ratio:.2f}x the forward passes' {forward.seconds:.1f} s, "
            f"{replay.statistics:.1f} s of statistics, {replay.solving:.1f} s of solving; peak "
            f"{replay.peak_bytes / 1e6:.0f} MB, whole {forward.peak_bytes / 1e6:.0f} MB"
        )
    body = {
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "sizes": asdict(sizes),
        "recipe": recipe,
        "rows": rows,
    }
    out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["child"] else main()
