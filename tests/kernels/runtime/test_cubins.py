"""Compiled kernels are kept, found again by everything they depend on, and never used when damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quant.kernels.runtime import cubins, nvrtc
from quant.kernels.runtime.cubins import cache_dir, cubin_path, is_whole
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import Compiled

BUILD = Build("tiny", (("COUNT", 3),))
TEXTS = {
    "tiny.cu": '#include "tiny.cuh"\nextern "C" __global__ void tiny(float* p) { p[0] = twice(p[COUNT]); }\n',
    "tiny.cuh": "__device__ inline float twice(float x) { return x + x; }\n",
    "other.cuh": "",
}
#: A process that compiles `TEXTS` as this one would.
PROGRAM = f"""
import os, sys, time
from pathlib import Path
from quant.kernels.runtime.cubins import cubin_path
from quant.kernels.runtime.launch import Build
def path(count=3):
    return cubin_path(Build("tiny", (("COUNT", count),)), "sm_80", {TEXTS!r})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that is not there yet."""
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "a" / "cache"))
    return tmp_path / "a" / "cache"


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM + program], stdout=subprocess.PIPE, text=True)


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_again(*_: object) -> Compiled:
        raise AssertionError("compiled again")

    monkeypatch.setattr(nvrtc, "compile_cubin", compile_again)


def test_a_kernel_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cubin_path(BUILD, "sm_90a", TEXTS)
    assert list(folder.iterdir()) == [path]
    assert path.name.startswith("tiny-sm_90a-")
    assert path.suffix == ".cubin"
    assert path.read_bytes() == nvrtc.compile_cubin(BUILD, "sm_90a", TEXTS).cubin
    forbid_compiling(monkeypatch)
    assert cubin_path(BUILD, "sm_90a", TEXTS) == path


def test_everything_that_matters_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(*_: object) -> Compiled:
        return Compiled(b"", "")

    monkeypatch.setattr(nvrtc, "compile_cubin", compile_nothing)
    first = cubin_path(BUILD, "sm_80", TEXTS)
    assert cubin_path(BUILD, "sm_80", {**TEXTS, "other.cuh": "not included"}) == first
    others = [
        cubin_path(BUILD, "sm_80", {**TEXTS, "tiny.cu": TEXTS["tiny.cu"] + "\n"}),
        cubin_path(BUILD, "sm_80", {**TEXTS, "tiny.cuh": TEXTS["tiny.cuh"] + "\n"}),
        cubin_path(BUILD, "sm_86", TEXTS),
        cubin_path(Build("tiny", (("COUNT", 4),)), "sm_80", TEXTS),
    ]
    monkeypatch.setattr(nvrtc, "version", lambda: (99, 0))
    others.append(cubin_path(BUILD, "sm_80", TEXTS))
    monkeypatch.setattr(nvrtc, "options", lambda build, arch: ("--other",))
    others.append(cubin_path(BUILD, "sm_80", TEXTS))
    assert len({first, *others}) == 7


@pytest.mark.parametrize("damage", ["empty", "garbage", "first half", "all but a byte"])
def test_a_damaged_file_is_compiled_anew(damage: str) -> None:
    path = cubin_path(BUILD, "sm_80", TEXTS)
    right = path.read_bytes()
    wrong = {"empty": b"", "garbage": b"\0" * len(right), "first half": right[: len(right) // 2]}
    path.write_bytes(wrong.get(damage, right[:-1]))
    assert cubin_path(BUILD, "sm_80", TEXTS) == path
    assert path.read_bytes() == right


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_a_file_is_whole_or_not(arch: str) -> None:
    cubin = nvrtc.compile_cubin(BUILD, arch, TEXTS).cubin
    assert is_whole(cubin)
    assert not any(is_whole(cubin[:size]) for size in range(len(cubin)))


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_used(folder: Path) -> None:
    killed = start("Path.replace = lambda *_: os._exit(9)\npath()\n")
    assert killed.wait() == 9
    (part,) = folder.iterdir()
    assert part.suffix != ".cubin"
    path = cubin_path(BUILD, "sm_80", TEXTS)
    assert is_whole(path.read_bytes())


def test_an_interrupted_write_is_cleaned_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(KeyboardInterrupt):
        cubin_path(BUILD, "sm_80", TEXTS)
    assert list(folder.iterdir()) == []


def test_processes_that_compile_the_same_at_once(folder: Path, tmp_path: Path) -> None:
    """Each waits for the sign, so that they write the same files at the same time."""
    wait = f"while not Path({str(tmp_path / 'go')!r}).exists(): pass\nprint(*(path(count) for count in range(5)))\n"
    processes = [start(wait) for _ in range(2)]
    (tmp_path / "go").touch()
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert sorted(outputs[0]) == sorted(map(str, folder.iterdir()))
    assert all(is_whole(path.read_bytes()) for path in folder.iterdir())


def test_another_process_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_here = nvrtc.compile_cubin

    def compile_slowly(*arguments: object) -> Compiled:
        other = start("print(path())\n")
        assert is_whole(Path(other.communicate()[0].strip()).read_bytes())
        return compile_here(BUILD, "sm_80", TEXTS)

    monkeypatch.setattr(nvrtc, "compile_cubin", compile_slowly)
    path = cubin_path(BUILD, "sm_80", TEXTS)
    assert list(path.parent.iterdir()) == [path]
    assert is_whole(path.read_bytes())


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(KernelError) as caught:
        cubin_path(BUILD, "sm_80", TEXTS)
    assert str(caught.value) == (
        f"compiled kernels cannot be kept in {tmp_path}/file/cache (Not a directory): "
        "set QUANT_CACHE_DIR to a folder that can be written"
    )


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cubin_path(BUILD, "sm_80", TEXTS)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(KernelError, match=r"\(Permission denied\): set QUANT_CACHE_DIR"):
        cubin_path(BUILD, "sm_80", TEXTS)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/named")
    monkeypatch.delenv("QUANT_CACHE_DIR")
    assert cache_dir() == Path("/xdg/quant")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_dir() == Path("/home/someone/.cache/quant")


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("QUANT_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(KernelError, match="set QUANT_CACHE_DIR"):
        cache_dir()


def test_the_folder_a_user_of_another_group_could_read(folder: Path) -> None:
    """A shared cache needs the usual permissions, not those of a private temporary file."""
    before = os.umask(0o022)
    try:
        path = cubin_path(BUILD, "sm_80", TEXTS)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert cubins.CACHE_VARIABLE in os.environ
