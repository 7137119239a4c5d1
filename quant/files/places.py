"""Paths that anyone may have written, and where output may be: apart from what it is made from, where a disk holds it.

Paths are compared by what they lead to: through symbolic links and `..`, in any case where a file system has none, and
through a second mount of the same folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quant.errors import QuantError
from quant.files.locks import locked
from quant.text import first_line, shown

#: In the README.md that `quant report` writes into a checkpoint: it may go when the checkpoint is replaced.
CARD_MARK = "<!-- written by `quant report --model-card` -->"


#: Files up to this many bytes are compared by their hash, larger ones by their size: hashing weights takes minutes, and
#: nobody writes by hand into those.
_HASHED = 1 << 26


def is_as_listed(path: Path, entry: object) -> bool:
    """Whether a file is the one that an entry of a manifest's "files" speaks of, as far as is known without much time.

    Raises:
        OSError: it cannot be read.
    """
    if not isinstance(entry, dict) or path.is_symlink() or not path.is_file():
        return False
    size = path.stat().st_size
    if size != entry.get("bytes"):
        return False
    return size > _HASHED or hashlib.sha256(path.read_bytes()).hexdigest() == entry.get("sha256")


def is_card(path: Path) -> bool:
    """Whether a file is a README.md that `quant report` wrote. Raises OSError where it cannot be read."""
    return path.name == "README.md" and path.is_file() and CARD_MARK.encode() in path.read_bytes()


def is_file(path: Path) -> bool:
    """Is it a regular file? A pipe and a device, which may never end, are none; nor is a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def is_folder(path: Path) -> bool:
    """Is it a folder? A name that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_plain_name(name: object) -> bool:
    """Whether a name is one visible entry of a folder on every system: no separator, drive or control character."""
    return (
        isinstance(name, str)
        and bool(name)
        and name.isprintable()
        and not name.startswith(".")
        and not any(c in name for c in "/\\:")
    )


def real_place(out: Path) -> Path:
    """The absolute path of an output, its parent's links resolved and its own name kept: it may be a link itself."""
    if out.name in ("", ".."):
        return Path(os.path.realpath(out))
    return Path(os.path.realpath(out.parent)) / out.name


def check_apart(out: Path, sources: Iterable[Path], error: type[QuantError] = QuantError) -> None:
    """Refuses an output that is, holds, or lies in something that it is made from.

    Raises:
        QuantError: of the class `error`, with both paths.
    """
    place = real_place(out)
    mine, around = _identity(place), set(_identities(place))
    for source in sources:
        whole = _identity(source)
        if whole is None:
            continue
        if whole == mine:
            raise error(f"{out}: is the original, which is never written to; choose another --out")
        if whole in around:
            raise error(f"{out}: lies in the original, {source}, which is never written to; choose another --out")
        above = {*_identities(Path(os.path.realpath(source))), *_identities(Path(os.path.abspath(source)).parent)}  # noqa: PTH100
        if mine is not None and mine in above:
            raise error(f"{out}: holds the original, {source}; choose another --out")


def check_folder_place(out: Path, error: type[QuantError] = QuantError) -> Path:
    """The real path of a folder to be made, where nothing but a folder is in the way.

    Raises:
        QuantError: of the class `error`: it is a file, a link, a mount point or a root, or no folder can be there.
    """
    with _said(out, error):
        place = real_place(out)
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and stat.S_ISLNK(mode):
            raise error(
                f"{out}: is a link to {shown(str(place.readlink()))}; give that folder itself, or another --out"
            )
        if mode is not None and not stat.S_ISDIR(mode):
            raise error(f"{out}: is a file; give --out a folder that does not exist yet")
        if mode is not None and os.path.ismount(place):
            raise error(f"{out}: is a mount point, which cannot be replaced; give --out a folder in it")
    return place


def check_file_place(out: Path, error: type[QuantError] = QuantError) -> Path:
    """The real path of a file to be written, where nothing but a file is in the way and its folder exists.

    Raises:
        QuantError: of the class `error`.
    """
    with _said(out, error):
        place = Path(os.path.realpath(out))
        if not place.parent.is_dir():
            raise error(f"{out.parent}: no such folder")
        if place.exists() and not place.is_file():
            raise error(f"{out}: is no file that could be replaced; choose another --out")
    return place


@contextmanager
def file_to_write(out: Path, error: type[QuantError] = QuantError) -> Iterator[Callable[[str], None]]:
    """Holds the place of a file while its content is worked out; gives the function that writes it, in one step.

    Another process is refused meanwhile, and so is, before the work, a folder that cannot be written.

    Raises:
        QuantError: of the class `error`.
    """
    place = check_file_place(out, error)
    unfinished = place.with_name(f".{place.name}.part")

    def write(text: str) -> None:
        try:
            with replaced(place, unfinished):
                unfinished.write_text(text, encoding="utf-8")
        except (OSError, ValueError) as cause:  # of text with half a character, which no encoding has
            raise error(f"{out}: cannot be written: {reason(cause)}") from None

    with locked(place.with_name(f".{place.name}.lock"), str(out), error):
        yield write


@contextmanager
def replaced(path: Path, unfinished: Path) -> Iterator[None]:
    """Within it `unfinished` is written, a name in the same folder; it becomes `path` once the disk has all of it.

    Raises:
        OSError: the disk refuses. `path` is as it was, and nothing of `unfinished` is left, whatever is raised.
    """
    try:
        yield
        sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until the disk has a file or a folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: BaseException) -> str:
    """What an error of writing says, without the path."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def _said(out: Path, error: type[QuantError]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as cause:
        raise error(f"{out}: cannot be written: {reason(cause)}") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _identities(path: Path) -> Iterator[tuple[int, int]]:
    for each in (path, *path.parents):
        found = _identity(each)
        if found is not None:
            yield found


def make_parents(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns those that were not there, the outermost first. Raises OSError."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def remove_tree(path: Path) -> None:
    """Removes a folder, if it is there. Raises OSError where one remains."""
    if path.is_dir():
        shutil.rmtree(path)


def empty(folder: Path) -> None:
    """Removes all that a folder holds. Raises OSError where something remains."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sync_tree(root: Path) -> None:
    """As `sync`, of a folder and all that it holds."""
    for path in [*root.rglob("*"), root]:
        sync(path)
