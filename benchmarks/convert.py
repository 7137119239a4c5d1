"""Times `quant convert` against `cp` and fsync of the same weights, as ratios within one run.

`make bench-convert` writes benchmarks/results/convert.json. Both run as programs of their own, in turns, from nothing
to the last byte on the disk: what Python and torch take to start is part of it. Cold: the source is not in the page
cache, as far as the system lets a program say so; warm: it is. Weights of the large file are zeros, so that it takes no
room on the disk; what is written of it is as large as of any other.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from quant.checkpoint.shards import FileTensor, file_header

RESULTS = Path(__file__).parent / "results" / "convert.json"
#: A block of a video transformer of 14B: its Linears, bias and norm left out.
BLOCK = {"attn.qkv": (15360, 5120), "attn.o": (5120, 5120), "ffn.0": (13824, 5120), "ffn.2": (5120, 13824)}
#: Options of the command, and the goal: time of cp + fsync over ours, cold and warm.
CASES: dict[str, tuple[tuple[str, ...], float, float]] = {
    "FP8_DYNAMIC": (("--scheme", "FP8_DYNAMIC"), 1.0, 0.9),
    "W8A8": (("--scheme", "W8A8"), 1.0, 0.9),
    "W4A16": (("--scheme", "W4A16"), 0.6, 0.6),
    "2:4 FP8_DYNAMIC": (("--scheme", "FP8_DYNAMIC", "--sparsity", "2:4"), 0.6, 0.6),
    "W4A16 mse": (("--scheme", "W4A16", "--ranges", "mse"), 0.2, 0.2),
}


@dataclass(frozen=True)
class Run:
    """One program: seconds it took, seconds of all cores, and its peak resident memory in bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def make_weights(path: Path, size: int, *, dense: bool) -> None:
    """Writes bf16 weights of whole blocks, about `size` bytes; if not `dense`, zeros that take no room on the disk."""
    per_block = 2 * sum(n * k for n, k in BLOCK.values())
    tensors = {
        f"blocks.{i}.{name}.weight": FileTensor(torch.bfloat16, shape)
        for i in range(max(1, round(size / per_block)))
        for name, shape in BLOCK.items()
    }
    head, places = file_header(tensors, {})
    torch.manual_seed(0)
    values = (torch.randn(1 << 24) * 0.02).bfloat16().view(torch.uint8).numpy()
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + sum(tensor.nbytes for tensor in tensors.values()))
        for i, (name, place) in enumerate(places.items() if dense else ()):
            file.seek(place)
            left = tensors[name].nbytes
            shift = 2 * (i * 7919)  # no two tensors alike
            while left:
                piece = values[shift:][:left]
                file.write(piece.data)
                left, shift = left - len(piece), 0
        file.flush()
        os.fsync(file.fileno())


def warm(path: Path) -> None:
    """Brings a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def cold(path: Path) -> None:
    """Asks the system to drop a file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(command: Sequence[str]) -> Run:
    """Runs a program to its end. Raises ClickException with its words where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{command[0]} ends with status {process.returncode}: {said.strip()[-500:]}")
    return Run(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def copied(source: Path, folder: Path) -> Run:
    """cp of a file, with its holes written as zeros, and fsync."""
    copy = folder / "copy"
    done = run(["sh", "-c", 'cp --sparse=never "$1" "$2" && sync "$2"', "sh", str(source), str(copy)])
    copy.unlink()
    return done


#: The command, which leaves its peak memory in a file: what the system counts of a child begins with its parent's.
_COMMAND = """
import atexit, sys
from pathlib import Path

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    Path(sys.argv[-1] + ".peak").write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

atexit.register(peak)
from quant.cli import main
main()
"""


def converted(source: Path, folder: Path, options: Sequence[str]) -> tuple[Run, int]:
    """`quant convert`, and the bytes that it wrote."""
    out, peak = folder / "out", folder / "out.peak"
    done = run([sys.executable, "-c", _COMMAND, "convert", str(source), *options, "--quiet", "--out", str(out)])
    written = sum(path.stat().st_size for path in out.rglob("*"))
    done = replace(done, peak_bytes=1024 * int(peak.read_text()))
    shutil.rmtree(out)
    peak.unlink()
    return done, written


#: Loads a checkpoint into an empty model and prints seconds: reading its bytes, loading with hashes, and without.
_LOAD = """
import copy, json, sys, time
import quant.api.load as api
from pathlib import Path
from quant.pipelines.inputs.table import open_files

def seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

def read():
    with open(file, "rb", buffering=0) as opened:
        buffer = bytearray(1 << 22)
        while opened.readinto(buffer):
            pass

out, source = map(Path, sys.argv[1:])
(file,) = out.glob("*.safetensors")
model = open_files(source).model
read()
models = [copy.deepcopy(model) for _ in range(2)]
found = {"read": seconds(read)}
for name, check in (("with_hashes", True), ("without", False)):
    found[name] = seconds(lambda: api.load(out, into=models.pop(), check_files=check))
print(json.dumps({"bytes": file.stat().st_size, **found}))
"""


def loaded(source: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of `quant.load` of a checkpoint in the page cache, over reading its bytes; the medians."""
    out = folder / "out"
    main = "from quant.cli import main; main()"
    run([sys.executable, "-c", main, "convert", str(source), "--scheme", "FP8_DYNAMIC", "--quiet", "--out", str(out)])
    command = [sys.executable, "-c", _LOAD, str(out), str(source)]
    found = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(rounds)]
    shutil.rmtree(out)
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def measure(name: str, source: Path, folder: Path, state: str, rounds: int) -> dict[str, Any]:
    """One case: pairs of a copy and a conversion, each from the same state of the page cache."""
    options, *goals = CASES[name]
    prepare: Callable[[Path], None] = {"cold": cold, "warm": warm}[state]
    copies, ours, written = [], [], 0
    for _ in range(rounds):
        prepare(source)
        copies.append(copied(source, folder))
        prepare(source)
        made, written = converted(source, folder, options)
        ours.append(made)
    size = source.stat().st_size
    ratios = [copy.seconds / made.seconds for copy, made in zip(copies, ours, strict=True)]
    return {
        "case": name,
        "source_bytes": size,
        "written_bytes": written,
        "cache": state,
        "ratio": statistics.median(ratios),
        "goal": goals[state == "warm"],
        "ratios": ratios,
        "source_gb_per_core_second": size / 1e9 / statistics.median(made.cpu_seconds for made in ours),
        "peak_bytes": max(made.peak_bytes for made in ours),
        "copies": [asdict(each) for each in copies],
        "conversions": [asdict(each) for each in ours],
    }


@click.command(help=__doc__)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where files are made.  [default: /tmp]"
)
@click.option("--gigabytes", type=float, default=4.0, show_default=True, help="Of the dense file.")
@click.option(
    "--sparse-gigabytes", type=float, default=28.0, show_default=True, help="Of the file of zeros; 0 for none."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Cases.  [default: all]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, show_default=True)
def main(
    folder: Path | None, gigabytes: float, sparse_gigabytes: float, rounds: int, only: tuple[str, ...], out: Path
) -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="quant-convert-", dir=folder) as made:
        work = Path(made)
        dense, sparse = work / "dense.safetensors", work / "sparse.safetensors"
        make_weights(dense, round(gigabytes * 1e9), dense=True)
        converted(dense, work, CASES["W8A8"][0])  # compiles what is compiled once on a machine
        plan = [(name, dense, state, rounds) for name in only or CASES for state in ("cold", "warm")]
        if sparse_gigabytes:
            make_weights(sparse, round(sparse_gigabytes * 1e9), dense=False)
            plan += [("FP8_DYNAMIC", sparse, "cold", 1)]
        for name, source, state, count in plan:
            rows.append(measure(name, source, work, state, count))
            row = rows[-1]
            click.echo(
                f"{name:16} {row['source_bytes'] / 1e9:5.1f} GB {state}: cp + fsync / ours {row['ratio']:.2f} "
                f"(goal {row['goal']}), {row['source_gb_per_core_second']:.2f} GB a core second, "
                f"peak {row['peak_bytes'] / 1e6:.0f} MB"
            )
        loading = loaded(dense, work, rounds)
    machine = {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}
    body = {"machine": machine, "torch": torch.__version__, "rounds": rounds, "rows": rows, "load": loading}
    out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def table() -> str:
    """What was measured, from `benchmarks/results/convert.json`."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = [
        ["case", "source", "cache", "cp + fsync / ours", "goal", "GB/s", "GB a core second", "peak MB"],
        ["---", "---:", "---", *["---:"] * 5],
    ]
    for row in found["rows"]:
        seconds = statistics.median(each["seconds"] for each in row["conversions"])
        rows.append(
            [
                row["case"],
                f"{row['source_bytes'] / 1e9:.1f} GB",
                row["cache"],
                f"{row['ratio']:.2f}",
                str(row["goal"]),
                f"{row['source_bytes'] / 1e9 / seconds:.2f}",
                f"{row['source_gb_per_core_second']:.2f}",
                f"{row['peak_bytes'] / 1e6:.0f}",
            ]
        )
    load, machine = found["load"], found["machine"]
    return (
        "\n".join(f"| {' | '.join(row)} |" for row in rows)
        + "\n\ncp + fsync / ours: seconds of copying over those of converting, each a program from its start to the "
        "last byte on the disk; above 1, converting was faster. cache: whether the source was in the page cache. GB/s "
        f"and GB a core second: of the source. Medians of {found['rounds']} pairs, the large file once; "
        f"{machine['processor']}, {machine['cores']} cores, torch {found['torch']}. "
        f"`quant.load` of {load['bytes'] / 1e9:.1f} GB took "
        f"{load['with_hashes'] - load['read']:.2f} s longer than reading its bytes ({load['read']:.2f} s), and "
        f"{load['without'] - load['read']:.2f} s with check_files=False."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
