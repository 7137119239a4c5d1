"""Folders that are complete or do not exist: written in a hidden sibling, under a lock, then renamed into place.

Two names next to OUT belong to the one process that makes it:

    .OUT.lock     its lock, from before the first look at OUT until the end; a killed process holds none
    .OUT.quant/   as long as OUT is not finished:
        new/      what becomes OUT; it is there from the beginning of a run until the rename, and so says that the run
                  is not finished
        old/      the folder that --force replaces, between the two renames
        run.json, journal.safetensors, solved/   what a calibration has done (quant.api.calibrate)
        written/  files of tensors that are finished while others are not, until all are moved to new/
        recorded/ the calls of a recording (quant.calibration.calls), which appear in new/ too when all are there

A run can be killed at any moment. The next one for the same OUT takes the lock, and what it then finds says how far the
killed one came:

    new/, and perhaps journal and solved/   it was working or writing: new/ is emptied; what was done is used where
                                            run.json has the key of the same run, else dropped
    old/, new/ and no OUT                   it stopped between the renames: old/ becomes OUT again, then as above
    written/                                the same: what is finished there is not made again
    no new/                                 it had finished: OUT is the new folder, and .OUT.quant is removed

An error or an interrupt ends a run in the first of these states too, and leaves .OUT.quant only where something was
done that the next run can use.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from quant.checkpoint.free import check_free
from quant.checkpoint.kept_shards import NOTE
from quant.errors import CheckpointError, QuantWarning
from quant.files.json_files import read_object
from quant.files.locks import locked
from quant.files.places import check_folder_place, empty, make_parents, reason, remove_tree, sync, sync_tree

#: What rename(2) says where something stands in the way.
_IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that only this process makes, and what a killed run for it has left.

    Attributes:
        out: as the user named it.
        place: where it is.
        hidden: its sibling.
        force: whether a checkpoint there may be replaced.
    """

    out: Path
    place: Path
    hidden: Path
    force: bool

    @property
    def journal(self) -> Path:
        return self.hidden / "journal.safetensors"

    @property
    def solved(self) -> Path:
        return self.hidden / "solved"

    @property
    def written(self) -> Path:
        return self.hidden / "written"

    @property
    def recorded(self) -> Path:
        return self.hidden / "recorded"

    def mark(self, name: str) -> Path:
        """A file by which other processes see that they work on the same folder; its maker removes it again."""
        return self._new / f"{name.removesuffix('.mark')}.mark"

    def drop_written(self) -> None:
        """Removes finished files, which are of a model that is no longer there."""
        with suppress(OSError):
            remove_tree(self.written)

    @property
    def keeps_work(self) -> bool:
        """Whether there is something that the next run can use."""
        tensors = (*self.solved.glob("*.safetensors"), *self.recorded.rglob("*.safetensors"))
        return self.journal.exists() or bool(tensors) or (self.written / NOTE).exists()

    @property
    def is_finished(self) -> bool:
        """Whether what was written has become `out`."""
        return not self._new.is_dir()

    def claim(self, run: Mapping[str, str]) -> list[str]:
        """Says whose work is kept here from now on, and drops what another run has left.

        Args:
            run: what the work depends on: a hash of each part, by the part's name, and of all of them, "key".

        Returns:
            the parts in which the dropped run differs; empty where nothing was dropped.

        Raises:
            CheckpointError: the disk refuses.
        """
        note = self.hidden / "run.json"
        try:
            before: Mapping[str, object] = read_object(note)
        except CheckpointError:
            before = {}
        if before == run:
            return []
        dropped = self.keeps_work
        try:
            self.journal.unlink(missing_ok=True)
            for work in (self.solved, self.written, self.recorded):
                remove_tree(work)
            unfinished = note.with_name(f"{note.name}.tmp")
            unfinished.write_text(json.dumps(dict(run)), encoding="utf-8")
            unfinished.replace(note)
        except OSError as error:
            raise CheckpointError(f"{self.out}: cannot be written: {reason(error)}") from None
        return [part for part in run if before.get(part) != run[part] and part != "key"] if dropped else []

    @contextmanager
    def new(self) -> Iterator[Path]:
        """Gives an empty folder to write into, which becomes `out` when the block ends without an error.

        A reader of `out` sees the old folder or the whole new one.

        Raises:
            CheckpointError: the disk refuses, or something else was put there meanwhile.
        """
        try:
            yield self._new
            sync_tree(self._new)
            self._put_into_place()
        except OSError as error:
            name = error.filename if isinstance(error.filename, str) else str(self.place)
            where = self.out if Path(name).is_relative_to(self.place.parent) else name
            raise CheckpointError(f"{where}: cannot be written: {reason(error)}") from error

    @property
    def _new(self) -> Path:
        return self.hidden / "new"

    @property
    def _old(self) -> Path:
        return self.hidden / "old"

    def _put_into_place(self) -> None:
        """A folder cannot be exchanged in one step, so the old one steps aside. Nothing is ever renamed over."""
        check_free(self.out, force=self.force)
        try:
            if self.place.is_dir() and any(self.place.iterdir()):
                self.place.rename(self._old)
                sync(self.hidden)
            self._new.rename(self.place)
        except BaseException as error:  # an interrupt too, which may also come when all is done
            if self._old.exists() and not self.is_finished and not os.path.lexists(self.place):
                self._old.rename(self.place)
            if isinstance(error, OSError) and error.errno in _IN_THE_WAY:
                raise CheckpointError(f"{self.out}: appeared meanwhile; choose another --out") from None
            raise
        try:
            sync(self.place.parent)
        except OSError as error:  # no failure: the folder stands
            warnings.warn(
                f"{self.out}: is finished, but its disk does not say that it would outlive a loss of power: "
                f"{reason(error)}",
                QuantWarning,
                stacklevel=2,
            )

    def _check_links(self) -> None:
        """Refuses links where only this program puts anything: what is emptied or written there would be elsewhere."""
        within = (folder.rglob("*") for folder in (self.solved, self.written, self.recorded))
        for path in chain([self.hidden], self.hidden.glob("*"), *within):
            if path.is_symlink():
                raise CheckpointError(f"{path}: is a link; remove it")

    def _recover(self) -> None:
        """Brings what a killed run left into a state to start from."""
        try:
            if self.hidden.is_dir() and self.is_finished:
                self._remove_hidden()
            if self._old.exists():
                if os.path.lexists(self.place):
                    raise CheckpointError(
                        f"{self.out}: was made by another program after a killed run had moved its old content to "
                        f"{self._old}; move one of them away"
                    )
                self._old.rename(self.place)
            self._new.mkdir(parents=True, exist_ok=True)
            empty(self._new)
        except OSError as error:
            raise CheckpointError(f"{self.out}: cannot be written: {reason(error)}") from None

    def _leave(self) -> None:
        """Removes all that no later run can use. A disk that refuses even this is no reason for another error."""
        with suppress(OSError):
            if self.is_finished or not (self.keeps_work or self._old.exists()):
                self._remove_hidden()
            else:
                empty(self._new)

    def _remove_hidden(self) -> None:
        """Removes what this program puts there, and nothing else."""
        for path in (self._new, self._old, self.solved, self.written, self.recorded):
            remove_tree(path)
        for path in (self.journal, self.hidden / "run.json"):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        with suppress(OSError):
            self.hidden.rmdir()


def _folder(out: Path, place: Path, force: bool) -> OutputFolder:
    return OutputFolder(out, place, place.with_name(f".{place.name}.quant"), force)


def seen_by_others(out: Path, *, force: bool) -> OutputFolder:
    """The folder that another process holds, for one that works with it."""
    return _folder(out, check_folder_place(out, CheckpointError), force)


@contextmanager
def holding(out: Path, *, force: bool) -> Iterator[OutputFolder]:
    """Holds an output folder for as long as its content is worked out. Another process for it is refused at once.

    Raises:
        CheckpointError: as `check_free`; another process holds it; or the disk refuses.
    """
    place = check_folder_place(out, CheckpointError)
    try:
        made = make_parents(place.parent)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {reason(error)}") from None
    folder = _folder(out, place, force)
    try:
        with locked(place.with_name(f".{place.name}.lock"), str(out), CheckpointError):
            holder = os.getpid()
            folder._check_links()
            try:
                folder._recover()
                check_free(out, force=force)
                yield folder
            finally:
                if os.getpid() == holder:  # and not a child that it forked, which an error ends
                    folder._leave()
    finally:
        for parent in reversed(made):
            with suppress(OSError):  # it is not empty: that is how it should be
                parent.rmdir()


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Gives an empty folder to write into, which becomes `out` when the block ends without an error.

    Raises:
        CheckpointError: as `holding` and `OutputFolder.new`.
    """
    with holding(out, force=force) as folder, folder.new() as work:
        yield work
