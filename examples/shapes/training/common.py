"""What every training stage shares: a place for its state, a log, a learning rate, and several processes.

A stage can be killed at any moment and started again. Three habits make that true:

* a checkpoint is written next to the old one and then renamed over it, so there is always a whole one;
* every random choice comes from a seed made of the step's number, so step 700 sees the same data whenever it runs;
* a checkpoint holds everything that a step changes: weights, optimizer state, averages, the step.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, distributed, multiprocessing

#: Settings a stage was given, and whatever else it is called with.
Worker = Callable[..., None]


@dataclass(frozen=True)
class StageSettings:
    """How a stage trains: `batch` clips for each of `processes` processes in every step."""

    steps: int
    batch: int
    processes: int = 2
    muon_rate: float = 0.01
    adam_rate: float = 2e-3
    #: A checkpoint and a look at held-out clips after every so many steps.
    every: int = 200
    #: Leave off after this step, as if killed; None goes to the end.
    stop: int | None = None


class Folder:
    """The folder that a training works in: checkpoints, logs and cached data."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write `state` as NAME.pt; a reader sees the old file or the new one, never half of one."""
        unfinished = self.path / f"{name}.pt.tmp"
        torch.save(state, unfinished)
        unfinished.replace(self.path / f"{name}.pt")

    def load(self, name: str) -> dict[str, Any] | None:
        """The last state saved as NAME, or None."""
        path = self.path / f"{name}.pt"
        return torch.load(path, weights_only=False) if path.exists() else None

    def require(self, name: str) -> dict[str, Any]:
        """The last state saved as NAME, where an earlier stage must have left one."""
        state = self.load(name)
        if state is None:
            raise SystemExit(f"{self.path / name}.pt is missing: run the stage that makes it first")
        return state

    def log(self, stage: str, **figures: Any) -> None:
        """One line of figures, to the screen and to STAGE.jsonl."""
        line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
        print(stage, line, flush=True)
        with (self.path / f"{stage}.jsonl").open("a") as file:
            file.write(line + "\n")

    def last_figures(self, stage: str) -> dict[str, Any]:
        """The last line that `stage` logged."""
        figures: dict[str, Any] = json.loads((self.path / f"{stage}.jsonl").read_text().splitlines()[-1])
        return figures


def run_stages(known: Mapping[str, Callable[[], None]], names: Sequence[str]) -> None:
    """Run the stages of these names, or all. Raises UsageError, before any is run, for a name that is none."""
    for name in names:
        if name not in known:
            raise click.UsageError(f"{name!r} is no stage: choose from {', '.join(known)}")
    for name in names or known:
        known[name]()


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 50) -> float:
    """Up to `peak` over `warm_up` steps, and linearly down to zero at the end."""
    return peak * min(1.0, (step + 1) / warm_up) * (1 - step / steps)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def psnr(video: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each clip [B, ...] in -1..1 (a peak of 2)."""
    error = (video - reference).square().flatten(1).mean(dim=1)
    return -10 * (error / 4).log10()


def in_processes(worker: Worker, processes: int, *arguments: Any) -> None:
    """Run `worker(rank, *arguments)` in `processes` processes of one thread each, rank 0 being the one that saves.

    On a small model, two processes that average their gradients are faster than one process with two threads:
    most operations are too short to be worth sharing.
    """
    torch.set_num_threads(1)
    if processes == 1:
        worker(0, *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting_place = f"file://{folder}/meet"
        multiprocessing.spawn(_join, (worker, processes, meeting_place, arguments), nprocs=processes)


def _join(rank: int, worker: Worker, processes: int, meeting_place: str, arguments: tuple[Any, ...]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting_place, world_size=processes, rank=rank)
    worker(rank, *arguments)
    distributed.destroy_process_group()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """The mean over all processes of every gradient; nothing to do for a single process."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
