"""Runs mutations in a process of their own, so that a hang, a crash or an appetite for memory is an outcome too."""

from __future__ import annotations

import copy
import faulthandler
import json
import os
import random
import resource
import select
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from quant.errors import QuantError
from quant.kernels.runtime.errors import KernelError
from quant.text import MESSAGE
from tests.fuzz.mutations import mutation_for
from tests.fuzz.target import Target

#: A read may compute this long, in seconds; and by the clock, which a busy machine stretches, six times as long.
SECONDS = 5.0
_CLOCK = 6
#: And this much memory in bytes over what the process has, or twice the files where they are larger.
MEMORY = 256 * 2**20
GOOD = ("refused", "same", "other")


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation.

    Attributes:
        number: of the mutation; with the target and the seed it makes the same one again.
        kind: "refused" in one line, the "same" as the good files, "other" where the changed files mean that; else
            what is wrong: "accepted", "message", "traceback", "hang", "memory", "crash".
        change: the file and what was done to it.
        words: the error, or why it is wrong.
    """

    number: int
    kind: str
    change: str
    words: str


class _Late(BaseException):
    """Raised by the alarm; no `except Exception` of the product catches it."""


#: Makes the change of a number: the good files by path -> the file to write, what was done to it, its new bytes
#: or what makes it.
Changes = Callable[[int, Mapping[Path, bytes]], tuple[Path, str, bytes | Callable[[Path], object]]]


def seeded(target: Target, seed: int) -> Changes:
    """The mutations of a campaign: the same seed, target and number make the same one."""

    def change(number: int, pristine: Mapping[Path, bytes]) -> tuple[Path, str, bytes]:
        rng = random.Random(f"{seed} {target.name} {number}")
        path = rng.choice(sorted(pristine))
        return (path, *mutation_for(path.name)(pristine[path], rng))

    return change


def campaign(target: Target, changes: Changes, numbers: range) -> Iterator[Outcome]:
    """Tries changes of a target's files, one after the other.

    A worker that ends or stands still is an outcome, and another one goes on behind it.
    """
    torch.set_num_threads(1)  # a fork has none of its parent's threads, and OpenMP would wait for them for ever
    with tempfile.TemporaryDirectory() as folder:
        target.make(Path(folder))
        while numbers:
            for outcome in _supervised(target, Path(folder), changes, numbers):
                numbers = range(outcome.number + 1, numbers.stop)
                yield outcome


def _supervised(target: Target, folder: Path, changes: Changes, numbers: range) -> Iterator[Outcome]:
    pristine = {path: path.read_bytes() for path in target.files(folder)}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _work(target, folder, pristine, changes, numbers, writing)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    begun: dict[str, Any] | None = None
    ended = "crash"
    for line in _lines(reading):
        if line is None:
            ended = "hang"
            break
        begun = json.loads(line)
        if "kind" in begun:
            yield Outcome(**begun)
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    for path, data in pristine.items():
        path.write_bytes(data)
    if begun is None:
        raise RuntimeError(f"{target.name}: cannot read its good files; the process ended with {status}")
    if "kind" not in begun:
        yield Outcome(begun["number"], ended, begun["change"], f"the process ended with {status}")


def _lines(pipe: int) -> Iterator[bytes | None]:
    """What a worker says, line by line; None where it says nothing for too long."""
    rest = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], 2 * _CLOCK * SECONDS)
        piece = os.read(pipe, 65536) if ready else b""
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if not ready:
            yield None
        if not piece:
            return


def _work(
    target: Target, folder: Path, pristine: dict[Path, bytes], changes: Changes, numbers: range, pipe: int
) -> None:
    warnings.simplefilter("ignore")
    faulthandler.disable()  # a crash is an outcome here, and its traceback noise
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    good = copy.deepcopy(target.read(folder))  # tensors of a file may be its own pages in memory
    signal.signal(signal.SIGALRM, _late)
    signal.signal(signal.SIGPROF, _late)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 2 * MEMORY + 2 * sum(map(len, pristine.values())),) * 2)
    for number in numbers:
        path, what, data = changes(number, pristine)
        change = f"{path.relative_to(folder)}: {what}"
        _tell(pipe, {"number": number, "change": change})
        _write(path, data)
        kind, words = _outcome(target, folder, good)
        if path in pristine:
            _write(path, pristine[path])
        else:
            path.unlink()
        _tell(pipe, asdict(Outcome(number, kind, change, words[:500])))


def _write(path: Path, data: bytes | Callable[[Path], object]) -> None:
    """A new file under the name: what was read from the old one keeps its pages."""
    new = path.with_name(f"{path.name}.new")
    if isinstance(data, bytes):
        new.write_bytes(data)
    else:
        data(new)
    new.replace(path)


def _tell(pipe: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _outcome(target: Target, folder: Path, good: Any) -> tuple[str, str]:
    size = sum(path.stat().st_size for path in target.files(folder))
    before = _reset_peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, _CLOCK * SECONDS)
    try:
        found = target.read(folder)
    except (QuantError, KernelError) as error:
        words = str(error)
        clean = 0 < len(words) <= MESSAGE and words.isprintable()
        kind = "refused" if clean else "message"
    except _Late:
        return "hang", "".join(traceback.format_exc(limit=-3)).replace("\n", " ")
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}"
    else:
        kind, words = _accepted(target, folder, good, found)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    if _peak() - before > max(MEMORY, 2 * size):
        return "memory", f"{(_peak() - before) >> 20} MiB for {size} bytes"
    return kind, words


def _accepted(target: Target, folder: Path, good: Any, found: Any) -> tuple[str, str]:
    if equal(good, found):
        return "same", ""
    if target.hashed:
        return "accepted", "a changed file passed its hash"
    wrong = target.wrong(folder, found)
    return ("other", "") if wrong is None else ("accepted", wrong)


def equal(a: Any, b: Any) -> bool:
    """Equality of nested plain values, in which tensors are equal bit for bit and types count."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return a.numel() == 0 or torch.equal(_bytes(a), _bytes(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _late(*_: object) -> None:
    raise _Late


def _reset_peak() -> int:
    """Lets the peak begin at what memory the process has now, and returns that; else a second peak would not show."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
