"""C sources compiled by the machine's own compiler: once, whole or not at all, and said where it cannot be."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from quant.kernels.cpu import compiling
from quant.kernels.runtime.cubins import CACHE_VARIABLE
from quant.kernels.runtime.errors import KernelError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for compiled libraries, which this process has not loaded any of."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "library", compiling.library.__wrapped__)
    return tmp_path / "cache"


def test_it_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(compiling.library("encode_rows.c"), ctypes.CDLL)
    (made,) = cache.iterdir()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(compiling, "_compile", never)
    compiling.library("encode_rows.c")
    assert list(cache.iterdir()) == [made]


def test_another_processor_or_compiler_has_another_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling.library("encode_rows.c")
    monkeypatch.setattr(compiling, "_processor", lambda: "another")
    compiling.library("encode_rows.c")
    assert len(list(cache.iterdir())) == 2


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_compiler_that_fails_or_is_not_there_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = script(tmp_path / "failing", '[ "$1" = --version ] && exit 0; echo no such processor >&2; exit 3')
    for compiler, says in [
        ("none", "no C compiler: CC names 'none', which is no program here"),
        (str(tmp_path / "absent"), "which is no program here"),
        (failing, "failing: ends with status 3: no such processor"),
    ]:
        monkeypatch.setenv(compiling.COMPILER_VARIABLE, compiler)
        with pytest.raises(KernelError, match=says):
            compiling.library("encode_rows.c")
        assert not cache.exists() or not list(cache.iterdir())


def test_a_damaged_library_and_a_folder_that_cannot_be_written_are_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling.library("encode_rows.c")
    (made,) = cache.iterdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / made.name).write_bytes(b"nothing")
    monkeypatch.setenv(CACHE_VARIABLE, str(other))
    with pytest.raises(KernelError, match=r"\.so: cannot be loaded: .*; remove it"):
        compiling.library("encode_rows.c")
    monkeypatch.setenv(CACHE_VARIABLE, str(made))
    with pytest.raises(KernelError, match=r"compiled loops cannot be kept in .*\.so"):
        compiling.library("encode_rows.c")
