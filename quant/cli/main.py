"""The top of the command line: the group, and how errors leave it."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from quant.cli.bench import bench
from quant.cli.calibrate import calibrate
from quant.cli.convert import convert
from quant.cli.demo import demo
from quant.cli.eval.run import evaluate
from quant.cli.export import export
from quant.cli.generate import generate
from quant.cli.inspect import inspect
from quant.cli.kernels import kernels
from quant.cli.recipes import recipes
from quant.cli.record import record
from quant.cli.report import report
from quant.cli.sensitivity import sensitivity
from quant.cli.verify import verify
from quant.errors import QuantError, QuantWarning, interrupt_within
from quant.kernels.runtime.errors import KernelError
from quant.text import cut, message, printable


class _Failure(click.ClickException):
    """A user's mistake: one line on stderr, exit status 2."""

    exit_code = 2


class _Interrupt(click.ClickException):
    """Ctrl-C: one line on stderr, and the exit status that shells give it."""

    exit_code = 130

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"\n{self.format_message()}", file=file, err=True)


class _Stop(_Interrupt):
    """The same for SIGTERM."""

    exit_code = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: with what was done kept."""


class _Group(click.Group):
    """Turns the library's errors into one line; anything else is a defect and keeps its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A console that cannot print a name must not end what went well.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminations(), _notes():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _stopped(stop) from None
        except (QuantError, KernelError) as error:
            raise _Failure(message(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE or error.strerror is None:
                raise  # click ends quietly where nobody reads on
            where = "" if error.filename is None else f"{cut(str(error.filename), 300)}: "
            raise _Failure(printable(f"{where}{error.strerror}")) from error
        except Exception as error:
            within = interrupt_within(error)
            if within is not None:
                raise _stopped(within) from None
            lacking = _memory_lacking(error)
            if lacking is None:
                raise
            raise _Failure(lacking) from error


def _stopped(stop: KeyboardInterrupt) -> click.ClickException:
    """The message of a command, which may say how to go on, with the status of the signal."""
    kind = _Stop if isinstance(stop, _Terminated) else _Interrupt
    return kind(str(stop) or "interrupted")


def _memory_lacking(error: Exception) -> str | None:
    if "torch" not in sys.modules and not isinstance(error, MemoryError):
        return None
    from quant.devices import memory_lacking

    return memory_lacking(error)


@contextmanager
def _notes() -> Iterator[None]:
    """Shows this library's warnings as lines of the command, and others' as before."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(shown: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, QuantWarning):
                click.echo(f"note: {message(str(shown))}", err=True)
            else:
                others(shown, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


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
    epilog="A first run: quant convert MODEL --scheme FP8_DYNAMIC --out OUT, then quant inspect OUT.",
)
@click.version_option(package_name="quant-video", prog_name="quant")
def main() -> None:
    """Make video diffusion models smaller and faster.

    A recipe and a model become a checkpoint in FP8, INT8, INT4 or 2:4, which stock diffusers loads after
    `import quant.diffusers`.
    """
    # The libraries below talk about themselves at every start; what matters here this program says itself.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Threads that spin while they wait make torch 16 times slower as soon as another program wants a core; a short
    # spin costs nothing alone. Read by GNU's OpenMP, which torch's Linux wheels bring.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # ModelOpt's calibrators do not touch transformers, whatever its version.
    warnings.filterwarnings("ignore", message="transformers .* is not tested")


_OF_MODELS = (convert, record, calibrate, sensitivity, inspect, verify, generate, export)
for command in (*_OF_MODELS, recipes, kernels, bench, demo, evaluate, report):
    main.add_command(command)
