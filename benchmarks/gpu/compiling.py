"""Compiles what the next steps launch, one process for each core: compilers in one process wait for each other.

What is compiled is found again in the cache of `quant.kernels.runtime.cubins`. Without this it would be compiled one by
one at the first launch of each, in the time of the step that launches it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import click

# Each worker imports this file: torch is imported by the command alone.
from quant.kernels.runtime.cubins import cubin_path
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build


def compiled(build: Build, arch: str) -> str | None:
    """Compiles one into the cache, unless it is there; the reason where that fails."""
    try:
        cubin_path(build, arch)
    except KernelError as error:
        return f"{build.kernel}: {next(iter(str(error).splitlines()), '')}"
    return None


def compile_all(
    builds: Sequence[Build], arch: str, workers: int, *, one: Callable[[Build, str], str | None] = compiled
) -> list[str]:
    """Compiles them in so many processes.

    Args:
        builds: what to compile.
        arch: such as "sm_90a".
        workers: processes.
        one: compiles one and says why not.

    Returns:
        The reason of each that failed.
    """
    if not builds:
        return []
    with ProcessPoolExecutor(min(workers, len(builds)), multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(one, build, arch) for build in builds]
        return [said for done in as_completed(waiting) if (said := done.result()) is not None]


def said(builds: Iterable[Build], failed: Sequence[str], workers: int) -> str:
    """How it went, in a line."""
    count = len(list(builds))
    first = f"; {len(failed)} failed, the first: {failed[0]}" if failed else ""
    return f"{count} builds compiled in {workers} processes{first}"


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Only what a quick benchmark launches.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
def main(quick: bool, workers: int) -> None:
    import torch

    from benchmarks.gpu import builds
    from quant.kernels.runtime import availability, cupy_launch

    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise click.ClickException(f"no GPU is usable: {reason}")
    architecture = cupy_launch.device_architecture(cupy_launch.device_index(device))
    here = builds.Device(architecture, torch.cuda.get_device_properties(device).multi_processor_count)
    found = list(dict.fromkeys([*builds.of_smoke(here), *builds.of_bench(here, quick=quick)]))
    failed = compile_all(found, architecture.name, workers)
    click.echo(said(found, failed, workers))
    if failed:
        raise click.ClickException("\n".join(failed))


if __name__ == "__main__":
    main()
