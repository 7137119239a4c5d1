"""`packages.json` as data: which published package holds which weights, by SHA-256."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Package:
    """One pinned file that pip downloads. `kind` says which of a release's files it is."""

    name: str
    version: str
    kind: Literal["sdist", "wheel"]
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Member:
    """One file inside a package: its path there, its size and its hash."""

    package: Package
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Network:
    """Weights that become NAME.safetensors. `tensors_sha256` is `cache.tensors_sha256` of what must be in it."""

    name: str
    about: str
    member: Member
    tensors_sha256: str


@cache
def networks() -> Mapping[str, Network]:
    """Every network that can be fetched, by name."""
    data = _data()
    return {
        name: Network(name, entry["about"], _member(data, entry), entry["tensors_sha256"])
        for name, entry in data["networks"].items()
    }


@cache
def clips() -> Mapping[str, Member]:
    """Real video clips, by file name: what a network says of them is known, so they check a network."""
    data = _data()
    return {name: _member(data, entry) for name, entry in data["clips"].items()}


def _member(data: Mapping[str, Any], entry: Mapping[str, Any]) -> Member:
    package = Package(entry["package"], **data["packages"][entry["package"]])
    return Member(package, entry["member"], entry["sha256"], entry["bytes"])


@cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(Path(__file__).with_name("packages.json").read_text(encoding="utf-8"))
    return data
