"""What a calibration depends on: the original's files as they were at its start, and all that was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from quant.calibration.preparing import Prepared
from quant.calibration.provenance import provenance
from quant.errors import ModelError
from quant.pipelines.copying import files_of
from quant.pipelines.source import Source


class _Stamp(NamedTuple):
    """Of a file: what changes whenever it is written or another takes its place."""

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

    def check(self) -> None:
        """Raises ModelError with the first file that is not as it was."""
        now = _stamps(self.source)
        for name in sorted({*self.files, *now}):
            if self.files.get(name) != now.get(name):
                what = "is gone" if name not in now else "changed" if name in self.files else "appeared"
                raise ModelError(
                    f"{self.source.folder / name}: {what} while the model was calibrated, and nothing was written; "
                    "calibrate again when nothing writes there"
                )

    def stands(self) -> bool:
        """Whether a run that starts now would find the same files as `run_of` sees them, and so go on with this one."""
        try:
            return _seen(_stamps(self.source)) == _seen(self.files)
        except ModelError:
            return False


def run_of(start: Prepared, snapshot: Snapshot, dtype: torch.dtype) -> dict[str, str]:
    """A hash of each thing that statistics and solutions depend on, by its name, and of all of them: "key".

    A keep budget is none of them: it is about what is measured afterwards. Nor is a file's inode: a model that was
    moved away and back is the same.
    """
    recipe = replace(start.recipe, keep_budget=None)
    parts = {
        "recipe": recipe.sha256,
        "prompts": start.prompts or [],
        "settings": start.settings.given(),
        "dtype": str(dtype),
        "model": [str(start.source.folder.resolve()), _seen(snapshot.files)],
        "versions": provenance(recipe, "")["versions"],
    }
    hashes = {name: _hash(part) for name, part in parts.items()}
    return {**hashes, "key": _hash(hashes)}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _seen(files: Mapping[str, _Stamp]) -> list[tuple[str, int, int]]:
    return [(name, stamp.size, stamp.mtime_ns) for name, stamp in files.items()]


def _stamps(source: Source) -> dict[str, _Stamp]:
    found = {}
    for name, path in files_of(source).items():
        try:
            status = path.stat()
        except OSError:
            continue
        found[name] = _Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
    return found
