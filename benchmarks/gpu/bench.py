"""Measures everything within a number of seconds: a process of its own, so that a fault in it ends nothing else.

What is measured so far is written after every shape: a run that is cut short leaves that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.gpu import matmuls, rows, shapes, torch_compiled
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.ceilings import copy_rate
from benchmarks.gpu.contestants import BASELINE, COMPILATIONS
from benchmarks.gpu.entries import Entry, first_line
from benchmarks.gpu.figures import body
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.timing import EventTimer, Timer
from quant.kernels.runtime import availability

#: Parts of the time that compilations may take, and that is kept for rows.
COMPILE_SHARE, ROWS_SHARE = 0.35, 0.1


class Bench:
    """One run of the benchmark, filling a file."""

    def __init__(self, out: Path, device: torch.device, timer: Timer, budget: Budget, *, quick: bool) -> None:
        self.budget = budget
        self.purse = Purse(COMPILE_SHARE * budget.seconds, COMPILATIONS)
        self._out, self._device, self._timer, self._quick = out, device, timer, quick
        self._capability = torch.cuda.get_device_capability(device)
        self._matmuls: list[tuple[shapes.Shape, Sequence[Entry]]] = []
        self._rows: list[tuple[shapes.Rows, Sequence[Entry]]] = []
        self._skipped: list[tuple[str, str]] = []
        self._copy_rate = 0.0

    def run(self) -> None:
        """The copy, then matmuls and, between the first and the others, rows: whatever time allows of each."""
        self._copy_rate = copy_rate(self._timer, self._device)
        click.echo(f"copy: {self._copy_rate / 1e12:.2f} TB/s read and written")
        wanted = shapes.matmuls(quick=self._quick)
        sizes = shapes.rows(quick=self._quick)
        first = 1 if self._quick else 5
        self._matmuls_of(wanted[:first], after=len(wanted) - first, reserved=ROWS_SHARE * self.budget.seconds)
        self._rows_of(sizes)
        self._matmuls_of(wanted[first:], after=0, reserved=0.0)

    def ended(self) -> str:
        """How many shapes were measured, in a line."""
        return (
            f"{len(self._matmuls)} matmuls and {len(self._rows)} sizes of rows measured, {len(self._skipped)} skipped"
        )

    def broken(self) -> list[str]:
        """Kernels of this project that failed or were wrong anywhere: with a rival that is its own affair, here not."""
        every = [entry for _, entries in (*self._matmuls, *self._rows) for entry in entries]
        ours = (each for each in every if each.name.startswith("quant ") and each.outcome in ("failed", "wrong"))
        return list(dict.fromkeys(f"{each.name}, {each.format}: {each.outcome}: {each.reason}" for each in ours))

    def _matmuls_of(self, wanted: Sequence[shapes.Shape], *, after: int, reserved: float) -> None:
        for index, shape in enumerate(wanted):
            slot = self.budget.slot(len(wanted) - index + after, self.purse.left + reserved)
            if self._late(str(shape)):
                continue
            try:
                inputs = Inputs(shape, self._device)
                found = matmuls.contestants(inputs, self._capability)
                entries = matmuls.measure(inputs, found, self._timer, slot, self.purse)
            except Exception as error:  # of the inputs: out of memory, on a small device
                self._skip(str(shape), first_line(error))
            else:
                self._matmuls.append((shape, entries))
                click.echo(f"{shape}\n{_lines(entries)}")
            finally:
                inputs = found = None  # type: ignore[assignment]
                torch.cuda.empty_cache()
            self._write()

    def _rows_of(self, sizes: Sequence[shapes.Rows]) -> None:
        for index, size in enumerate(sizes):
            name = f"rows: M {size.m} K {size.k}"
            part = Budget(ROWS_SHARE * self.budget.seconds / len(sizes))
            if self._late(name):
                continue
            try:
                inputs = rows.make(size, self._device, seed=index)
                entries = rows.measure(inputs, size, self._timer, part, self.purse, self._capability)
            except Exception as error:
                self._skip(name, first_line(error))
            else:
                self._rows.append((size, entries))
                click.echo(f"{name}\n{_lines(entries)}")
            self._write()

    def _late(self, name: str) -> bool:
        if self.budget.left() > 0:
            return False
        self._skip(name, f"the {self.budget.seconds:.0f} s of the benchmark were over")
        self._write()
        return True

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.append((name, reason))
        click.echo(f"{name}: skipped: {reason}")

    def _write(self) -> None:
        filled = body(self._matmuls, self._rows, self._copy_rate, self._skipped)
        write_json(filled, self._out)


def write_json(content: Any, path: Path) -> None:
    """Writes a hidden sibling and renames it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def _lines(entries: Sequence[Entry]) -> str:
    base = {e.mode: e.seconds.median for e in entries if e.name == BASELINE and e.seconds is not None}
    lines = []
    for each in entries:
        label = f"  {each.format:8} {each.mode:5} {each.name:40}"
        if each.seconds is None:
            lines.append(f"{label} {each.outcome}: {each.reason}")
        else:
            ratio = f"  {base[each.mode] / each.seconds.median:5.2f}x of bf16" if each.mode in base else ""
            lines.append(f"{label} {each.seconds.median * 1e3:9.4f} ms{ratio}")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The JSON file to fill.")
@click.option("--seconds", type=float, required=True, help="Time for all of it.")
@click.option("--quick", is_flag=True, help="Five shapes.")
def main(out: Path, seconds: float, quick: bool) -> None:
    budget = Budget(seconds)
    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise click.ClickException(f"no GPU is usable: {reason}")
    # float32 products of rivals are not to be rounded to tf32.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch_compiled.keep_all_variants()
    with torch.no_grad():
        bench = Bench(out, device, EventTimer(device), budget, quick=quick)
        bench.run()
    click.echo(bench.ended())
    broken = bench.broken()
    if broken:
        raise click.ClickException(" / ".join(broken))


if __name__ == "__main__":
    main()
