"""The files of a model as they were when a calibration began, so that none is made of two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from quant.errors import ModelError
from quant.pipelines.copying import files_of
from quant.pipelines.source import Source


class _Stamp(NamedTuple):
    """What changes of a file whenever it is written or another takes its place."""

    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True)
class Snapshot:
    """The files of a model at one moment."""

    source: Source
    files: Mapping[str, _Stamp]

    @classmethod
    def of(cls, source: Source) -> Snapshot:
        """Reads no file's content, so that gigabytes cost nothing."""
        return cls(source, _stamps(source))

    def check(self, doing: str = "calibrated") -> None:
        """Raises ModelError with the first file that is not as it was while something was done to the model."""
        now = _stamps(self.source)
        for name in sorted({*self.files, *now}):
            if self.files.get(name) != now.get(name):
                what = "is gone" if name not in now else "changed" if name in self.files else "appeared"
                raise ModelError(
                    f"{self.source.folder / name}: {what} while the model was {doing}, and nothing was written; "
                    "start again when nothing writes there"
                )

    @property
    def seen(self) -> list[tuple[str, int, int]]:
        """Name, size and time of each file: the same of a model that was moved away and back, whose inodes are new."""
        return [(name, stamp.size, stamp.mtime_ns) for name, stamp in self.files.items()]

    def stands(self) -> bool:
        """Whether a run that starts now would find the same files, and so go on with this one."""
        try:
            return Snapshot.of(self.source).seen == self.seen
        except ModelError:
            return False


def _stamps(source: Source) -> dict[str, _Stamp]:
    found = {}
    for name, path in files_of(source).items():
        try:
            status = path.stat()
        except OSError:
            continue
        found[name] = _Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
    return found
