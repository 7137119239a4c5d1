"""The top of the command line: the group, and how errors leave it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from quant.cli.bench import bench
from quant.cli.calibrate import calibrate
from quant.cli.demo import demo
from quant.cli.eval import evaluate
from quant.cli.inspect import inspect
from quant.cli.kernels import kernels
from quant.cli.recipes import recipes
from quant.cli.report import report
from quant.cli.sensitivity import sensitivity
from quant.errors import QuantError
from quant.kernels.runtime.errors import KernelError


class _Failure(click.ClickException):
    """A user's mistake: one line on stderr, exit status 2."""

    exit_code = 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: with what was done kept."""


class _Group(click.Group):
    """Turns the library's errors into one line; anything else is a defect and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminations():
                return super().invoke(ctx)
        except (QuantError, KernelError) as error:
            raise _Failure(str(error)) from error
        except KeyboardInterrupt as stop:
            # Commands that can say how to go on do so; the status is that of a shell for the signal.
            click.echo(f"\n{str(stop) or 'interrupted'}", err=True)
            ctx.exit(143 if isinstance(stop, _Terminated) else 130)


@contextmanager
def _terminations() -> Iterator[None]:
    """While a command runs, SIGTERM is raised where Python is; twice, it ends the process at once."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: it is the program's around us to say
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="A first run: quant calibrate MODEL --recipe fp8-dynamic --out OUT, then quant inspect OUT.",
)
@click.version_option(package_name="quant-video", prog_name="quant")
def main() -> None:
    """Make video diffusion models smaller and faster.

    A recipe and a model become a checkpoint in FP8, INT8, INT4 or 2:4, which stock diffusers loads after
    `import quant.diffusers`.
    """
    # The libraries below talk about themselves at every start; what matters here is said by this program.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Threads that spin while they wait make torch 16 times slower as soon as another program wants a core; a short
    # spin costs nothing alone. Read by GNU's OpenMP, which torch's Linux wheels bring.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # ModelOpt's calibrators do not touch transformers, whatever its version.
    warnings.filterwarnings("ignore", message="transformers .* is not tested")


for command in (calibrate, sensitivity, inspect, recipes, kernels, bench, demo, evaluate, report):
    main.add_command(command)
