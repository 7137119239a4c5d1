"""What a model folder holds, as one hash of every byte, and whether it is still that.

A large model takes minutes to read, so the hash of a file is kept in the user's cache, under all that the file system
says of it: path, inode, size, and the times of its last change. The last of these, ctime, is set by the kernel at each
write and by no program, so a file that was changed and given its old time again is read again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from quant.errors import QuantError
from quant.eval.progress import Progress, silent
from quant.eval.storage.files import SETTLED, write_text
from quant.files.cache import cache_folder

#: Hex digits of a fingerprint. Those of 16 are of earlier versions, which read only the ends of each file.
DIGITS = 32
OLD_DIGITS = 16
#: What `quant report --model-card` writes, and no video depends on; the manifest has hashes of what is read here.
_WORDS = ("README.md", "quant_manifest.json")
_BLOCK = 1 << 24
_LARGE = 1024


class State(NamedTuple):
    """What the file system says of one file."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


#: By the name in the folder.
States = Mapping[str, State]


def states(folder: Path) -> dict[str, State]:
    """All files below a folder, behind links to folders too, sorted by name.

    Hidden files and folders, the card and the manifest do not count.

    Raises:
        QuantError: one cannot be looked at, or a link leads back to a folder that it lies in.
    """
    found = {}
    try:
        for path in sorted(_files(folder)):
            name = path.relative_to(folder)
            if str(name) in _WORDS or not path.is_file():
                continue
            there = path.stat()
            times = (there.st_mtime_ns, there.st_ctime_ns)
            found[name.as_posix()] = State(str(path.resolve()), there.st_ino, there.st_size, *times)
    except OSError as error:
        raise QuantError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None
    return found


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files that are not hidden, behind links to folders too, which `rglob` enters in no Python before 3.13."""
    here = folder.resolve()
    if here in above:
        raise QuantError(f"{folder}: is a link to {here}, which it lies in; remove it")
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, (*above, here))
        else:
            yield path


def fingerprint(folder: Path) -> str:
    """32 hex digits of the names and every byte in a model folder. Raises QuantError as `read_model` does."""
    return read_model(folder)[0]


def read_model(folder: Path, progress: Progress = silent, what: str = "") -> tuple[str, States]:
    """The fingerprint of a model folder, and the states of its files when they were read.

    Args:
        progress: called while more than a GiB is read; what is known from an earlier time is not read.
        what: is read, for progress.

    Raises:
        QuantError: a file cannot be read, or changes meanwhile.
    """
    found = states(folder)
    known = _known()
    total = max(1, sum(state.size for state in found.values() if state not in known) >> 20)
    read, digest = 0, hashlib.sha256()
    for name, state in found.items():
        sha256 = known.get(state)
        if sha256 is None:
            file = hashlib.sha256()
            for block in _blocks(Path(state.path)):
                file.update(block)
                read += len(block)
                if total >= _LARGE:
                    progress(f"{what}, MiB read", min(read >> 20, total - 1), total)
            sha256 = file.hexdigest()
            _keep(state, sha256)
        digest.update(f"{name}\0{state.size}\0{sha256}\n".encode())
    if total >= _LARGE:
        progress(f"{what}, MiB read", total, total)
    if states(folder) != found:
        raise QuantError(f"{folder}: changed while it was read; wait until whoever writes it is done")
    return digest.hexdigest()[:DIGITS], found


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None


def _cache() -> Path:
    return cache_folder("hashes") / "sha256.jsonl"


def _known() -> dict[State, str]:
    """What earlier runs have read. A line that is not whole says nothing."""
    found: dict[State, str] = {}
    try:
        lines = _cache().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, QuantError):
        return {}
    for line in lines:
        try:
            *state, sha256 = json.loads(line)
            path, *numbers = state
        except (ValueError, TypeError, RecursionError):
            continue
        whole = isinstance(path, str) and len(numbers) == 4 and all(type(number) is int for number in numbers)
        if whole and isinstance(sha256, str) and len(sha256) == 64:
            found[State(path, *numbers)] = sha256
    return found


def _keep(state: State, sha256: str) -> None:
    """Puts a file's line into the cache, in the place of its earlier ones.

    A cache that cannot be written, and a line of a process that writes at the same time, cost the time of the next
    reading, and no more.
    """
    if time.time_ns() - max(state.mtime_ns, state.ctime_ns) < SETTLED:
        return
    with suppress(OSError, QuantError):
        kept = {known: of for known, of in _known().items() if known.path != state.path}  # it had these states before
        lines = [json.dumps([*known, of]) for known, of in {**kept, state: sha256}.items()]
        write_text(_cache(), "\n".join(lines) + "\n")
