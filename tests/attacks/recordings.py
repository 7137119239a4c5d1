"""Hostile files of recorded calls."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from safetensors.torch import load, save

from quant.calibration.call_values import content_hash
from quant.checkpoint import kept_files
from tests.attacks.attack import ODD_PLACES, PICKLE, Attack, instead, placed

_TARGET, _INDEX, _CALL = "recorded calls", "recording.json", "calls/transformer-0-3-1.safetensors"
#: The name of the call's small tensor.
_SMALL = content_hash(torch.arange(6))


def _index(what: str, change: dict[str, Any]) -> Attack:
    """Somebody who knows how the file is hashed has changed it."""

    def make(good: bytes) -> bytes:
        body = json.loads(good) | change
        body.pop("sha256")
        body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return json.dumps(body).encode()

    return Attack(what, _TARGET, _INDEX, make)


def _call(what: str, argument: Any) -> Attack:
    """The same of a call's file, whose first argument is described otherwise."""

    def make(good: bytes) -> bytes:
        tensors = load(good)
        length = int.from_bytes(good[:8], "little")
        notes = json.loads(json.loads(good[8 : 8 + length])["__metadata__"]["notes"])
        notes.pop("sha256")
        notes["call"] = json.dumps(json.loads(notes["call"]) | {"args": [argument]})
        text = json.dumps({**notes, "sha256": kept_files._digest(tensors, notes)})
        return save(tensors, metadata={"notes": text})

    return Attack(what, _TARGET, _CALL, make)


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"list": [value]}
    return value


RECORDINGS: tuple[Attack, ...] = (
    _index("path: a component outside of the folder", {"calls": {"../../transformer": [[0, 3, 1, 875.0]]}}),
    _index("path: a component with a drive", {"calls": {"C:\\transformer": [[0, 3, 1, 875.0]]}}),
    _index("path: a row that is a path", {"calls": {"transformer": [["../0", 3, 1, 875.0]]}}),
    _index("version: one that nobody knows", {"format_version": 10**30}),
    _index("shape: calls that are a number", {"calls": 3}),
    _index("key: of another run", {"key": "other"}),
    Attack("json: nested 100,000 deep", _TARGET, _INDEX, instead("[" * 100_000)),
    Attack("code: a pickle in place of a call", _TARGET, _CALL, instead(PICKLE)),
    _call("code: a container that is a function", {"eval": ["1"]}),
    _call("code: a dtype that is a function", {"tensor": _SMALL, "dtype": "load", "shape": [6]}),
    _call("path: a tensor outside of the folder", {"tensor": "../../../etc/passwd"}),
    _call("shape: dimensions that the tensor has not", {"tensor": _SMALL, "order": [7]}),
    _call("shape: more values than there are", {"tensor": _SMALL, "dtype": "float8_e8m0fnu", "shape": [10**15]}),
    _call("stack: lists 150 deep", _deep(150)),
    _call("types: a tensor that is a list", {"tensor": [1]}),
    *(Attack(f"{what} as {_INDEX}", _TARGET, _INDEX, placed(place)) for what, place in ODD_PLACES.items()),
    *(  # not the terabyte: files of tensors are mapped, and take no memory
        Attack(f"{what} as a call", _TARGET, _CALL, placed(ODD_PLACES[what]))
        for what in ("time: a pipe that nobody writes", "memory: a device that never ends")
    ),
)
