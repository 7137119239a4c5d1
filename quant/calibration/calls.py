"""A recording on disk: what a model's denoisers were called with, so that each can be run alone.

    DIR/recording.json                      what was recorded, from what, and the list of calls; written last
    DIR/calls/COMPONENT-ROW-STEP-BRANCH.safetensors     one call: its arguments as JSON, and its small tensors
    DIR/tensors/HASH.safetensors            a large tensor, once: guidance's two calls share their latents, and all
                                            steps of a row its text

Every file is whole or absent and has a hash of what it holds; nothing that is read runs code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.calibration.call_values import CannotStore, Tensors, content_hash, described, restored, tensor_names
from quant.checkpoint.kept_files import keep, kept
from quant.devices import memory_lacking
from quant.errors import CalibrationError, UnrecordedError
from quant.files.json_files import read_object, text_of
from quant.files.places import is_plain_name, reason, replaced
from quant.text import shown

FORMAT_VERSION = 1
INDEX, CALLS, TENSORS = "recording.json", "calls", "tensors"
_SHA256 = "sha256"
#: Bytes from which a tensor has a file of its own.
_LARGE = 1 << 16


@dataclass(frozen=True)
class Place:
    """Which call of a denoiser.

    Attributes:
        component: the denoiser.
        row: of the inputs, from 0.
        step: of the row's whole schedule, from 0: experts share the count.
        branch: which of the calls of that component at that step, from 0.
        timestep: what it was called with, the largest where frames have their own; NaN where it takes none.
    """

    component: str
    row: int
    step: int
    branch: int
    timestep: float

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        return f"{self.component}-{self.row}-{self.step}-{self.branch}"


@dataclass(frozen=True)
class Calls:
    """A finished recording.

    Attributes:
        folder: where it is.
        about: what recording.json says besides the calls.
        key: of the run that made it.
        listed: the calls of each component, in the order in which they were made.
    """

    folder: Path
    about: Mapping[str, Any]
    key: str
    listed: Mapping[str, tuple[Place, ...]]

    @property
    def components(self) -> tuple[str, ...]:
        """The denoisers that were recorded."""
        return tuple(self.listed)

    def places(self, component: str) -> list[Place]:
        """The calls of a denoiser in the order in which they were made.

        Raises:
            CalibrationError: it was not recorded.
        """
        if component not in self.listed:
            raise CalibrationError(
                f"{self.folder}: holds no calls of '{component}', only of {', '.join(self.listed) or 'none'}"
            )
        return list(self.listed[component])

    def load(self, place: Place) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call, positional and by name, on the CPU.

        Raises:
            CalibrationError: its file, or one of its tensors', is missing or damaged.
        """
        found = _read(self.folder, place, self.key)
        if isinstance(found, Path):
            raise CalibrationError(f"{found}: missing or damaged; record again into another folder")
        return found


class CallsWriter:
    """A recording while it is made, in a folder that nobody else writes to.

    What a stopped run with the same key has written is there again; the files of any other count as absent.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key

    def has(self, place: Place) -> bool:
        """Whether a call has been written, whole."""
        return not isinstance(_found(self.folder, place, self._key), Path)

    def write(self, place: Place, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Writes one call. Its large tensors come first, so that a call that is there is whole.

        Raises:
            UnrecordedError: an argument that cannot be stored, with the denoiser.
            CalibrationError: the disk refuses.
        """
        tensors: Tensors = {}
        try:
            positional = [described(each, f"its argument {i + 1}", tensors) for i, each in enumerate(args)]
            named = [[name, described(each, f"'{name}'", tensors)] for name, each in kwargs.items()]
        except CannotStore as error:
            raise UnrecordedError(
                f"'{place.component}' is called with {error}, which cannot be recorded: only tensors, numbers, text, "
                "and lists, tuples and dicts of them can"
            ) from None
        for name in [name for name, tensor in tensors.items() if tensor.nbytes >= _LARGE]:
            tensor = tensors.pop(name)
            if _large(self.folder, name) is None:
                keep(_tensor_file(self.folder, name), {name: tensor}, {})
        text = json.dumps({"args": positional, "kwargs": named})
        keep(_call_file(self.folder, place), tensors, {"key": self._key, "place": place.name, "call": text})

    def finish(self, about: Mapping[str, Any], calls: Mapping[str, list[Place]]) -> Calls:
        """Writes recording.json: from now on the recording is finished.

        Args:
            about: what it was made from: plain values.
            calls: those of each component, in order.

        Raises:
            CalibrationError: a call or tensor is missing, or the disk refuses.
        """
        listed = {component: tuple(places) for component, places in calls.items()}
        made = Calls(self.folder, dict(about), self._key, listed)
        names = set().union(*(self._names(place) for places in listed.values() for place in places))
        path = self.folder / INDEX
        body = {
            "format_version": FORMAT_VERSION,
            "key": self._key,
            **about,
            "calls": {component: [plain_place(place) for place in places] for component, places in listed.items()},
        }
        text = text_of({**body, _SHA256: _digest(body)}, str(path), CalibrationError, indent=1)
        try:
            for each in (self.folder / TENSORS).glob("*.safetensors"):
                if each.stem not in names:  # of a call that was not finished, and then came out otherwise
                    each.unlink()
            unfinished = path.with_name(f"{path.name}.tmp")
            with replaced(path, unfinished):
                unfinished.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written: {reason(error)}") from None
        return made

    def _names(self, place: Place) -> set[str]:
        """The tensors of a call that was written. Raises CalibrationError where it is gone."""
        found = _found(self.folder, place, self._key)
        if isinstance(found, Path):
            raise CalibrationError(f"{found}: was written and is gone or damaged; is the disk sound?")
        return tensor_names([*found[0].values()])


def open_calls(folder: Path) -> Calls:
    """A finished recording; its calls are read when they are asked for.

    Raises:
        CalibrationError: there is none, it is not finished, of an unknown version, or damaged.
    """
    path = Path(folder) / INDEX
    body = read_object(path, CalibrationError, "missing; is this a folder that `quant record` has made?")
    version = body.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise CalibrationError(
            f"{path}: has format_version {shown(version)}; this release reads {FORMAT_VERSION}: record again"
        )
    try:
        if body.pop(_SHA256) != _digest({"format_version": version, **body}):
            raise ValueError("another text")
        key, calls = body.pop("key"), body.pop("calls")
        listed = {name: tuple(listed_place(name, row) for row in rows) for name, rows in calls.items()}
        if not isinstance(key, str):
            raise TypeError("key")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise CalibrationError(f"{path}: damaged, or changed after it was written; record again") from None
    return Calls(Path(folder), body, key, listed)


def _digest(body: Mapping[str, Any]) -> str:
    """Of all that recording.json says besides this hash."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def plain_place(place: Place) -> list[int | float | None]:
    """A place without its component as JSON holds it."""
    return [place.row, place.step, place.branch, place.timestep if place.timestep == place.timestep else None]


def listed_place(component: str, listed: Any) -> Place:
    """The place that `plain_place` made plain. Raises ValueError or TypeError for anything else."""
    row, step, branch, timestep = listed
    if not is_plain_name(component) or any(type(each) is not int or each < 0 for each in (row, step, branch)):
        raise ValueError(component)
    return Place(component, row, step, branch, float("nan") if timestep is None else float(timestep))


def _call_file(folder: Path, place: Place) -> Path:
    return folder / CALLS / f"{place.name}.safetensors"


def _tensor_file(folder: Path, name: str) -> Path:
    return folder / TENSORS / f"{name}.safetensors"


def _large(folder: Path, name: str) -> Tensors | None:
    """A tensor that has a file of its own; None where that is missing or damaged."""
    if not name.isalnum():  # no path
        return None
    found = kept(_tensor_file(folder, name))
    return None if found is None or set(found[0]) != {name} or content_hash(found[0][name]) != name else found[0]


def _found(folder: Path, place: Place, key: str) -> tuple[dict[str, Any], Tensors] | Path:
    """A call as it is described, and all its tensors; or the file that is missing or damaged."""
    path = _call_file(folder, place)
    found = kept(path, key=key, place=place.name)
    if found is None:
        return path
    tensors, notes = found
    try:
        call = json.loads(notes["call"])
        names = tensor_names([*call.values()])
    except (ValueError, KeyError, AttributeError, RecursionError):
        return path
    for name in sorted(names - set(tensors)):
        large = _large(folder, name)
        if large is None:
            return _tensor_file(folder, name)
        tensors |= large
    return call, tensors


def _read(folder: Path, place: Place, key: str) -> tuple[tuple[Any, ...], dict[str, Any]] | Path:
    """The arguments of a call, or the file that is missing or damaged."""
    found = _found(folder, place, key)
    if isinstance(found, Path):
        return found
    call, tensors = found
    try:
        args = tuple(restored(each, tensors) for each in call["args"])
        return args, {str(name): restored(each, tensors) for name, each in call["kwargs"]}
    except (ValueError, KeyError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        if memory_lacking(error):
            raise
        return _call_file(folder, place)
