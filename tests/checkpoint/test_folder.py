"""A folder is complete or does not exist: errors, kills at any moment, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quant.checkpoint.folder import check_free, new_folder
from quant.errors import CheckpointError

ROOT = Path(__file__).parent.parent.parent

# A run that writes a file and is killed: inside the block, or between the two renames at its end.
KILLED = """
import os, pathlib, signal, sys
from quant.checkpoint.folder import new_folder
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "renaming":
    rename, calls = pathlib.Path.rename, []
    def counting(self, target):
        calls.append(self)
        return die() if len(calls) == 2 else rename(self, target)
    pathlib.Path.rename = counting
with new_folder(pathlib.Path(sys.argv[1]), force=True) as work:
    (work / "half").write_text("half")
    if sys.argv[2] == "writing":
        die()
"""


def killed_run(out: Path, moment: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), moment], cwd=ROOT, check=False)
    assert done.returncode == -9


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def make(out: Path, content: str, *, force: bool = False) -> None:
    with new_folder(out, force=force) as work:
        (work / "sub").mkdir()
        (work / "sub" / "file").write_text(content, encoding="utf-8")


def fail(out: Path, error: BaseException) -> None:
    with new_folder(out, force=True) as work:
        (work / "half").write_text("half", encoding="utf-8")
        raise error


def content(out: Path) -> str:
    return (out / "sub" / "file").read_text(encoding="utf-8")


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with new_folder(out, force=False) as work:
        assert work.parent == out.parent
        assert list(work.iterdir()) == []
        (work / "file").touch()
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["file"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("old", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        make(out, "old")
    with pytest.raises(type(error)):
        fail(out, error)
    assert list(tmp_path.iterdir()) == ([out] if old else [])
    assert not old or content(out) == "old"


def test_a_disk_that_refuses_is_a_checkpoint_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    with pytest.raises(CheckpointError) as error:
        fail(out, OSError(28, "No space left on device"))
    assert str(error.value) == f"{out}: cannot be written: No space left on device"
    assert content(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    make(out, "old")
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if ".tmp-" in self.name:
            raise PermissionError(1, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(CheckpointError, match=r"out: cannot be written: Operation not permitted$"):
        make(out, "new", force=True)
    assert content(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_force_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    (out / "extra").touch()
    make(out, "new", force=True)
    assert content(out) == "new"
    assert not (out / "extra").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    real, out = tmp_path / "real", tmp_path / "out"
    make(real, "real")
    out.symlink_to(real)
    make(out, "new", force=True)
    assert (content(real), content(out)) == ("real", "new")
    assert sorted(tmp_path.iterdir()) == [out, real]


@pytest.mark.parametrize("check_only", [True, False])
def test_what_is_in_the_way_is_refused(tmp_path: Path, check_only: bool) -> None:
    def attempt(out: Path, *, force: bool) -> str:
        with pytest.raises(CheckpointError) as error:
            check_free(out, force=force) if check_only else make(out, "new", force=force)
        return str(error.value)

    folder, file = tmp_path / "folder", tmp_path / "file"
    make(folder, "old")
    file.write_text("mine", encoding="utf-8")
    assert attempt(folder, force=False).startswith(f"{folder}: already exists; ")
    assert "--force" in attempt(folder, force=False)
    for force in (False, True):
        assert attempt(file, force=force).startswith(f"{file}: is a file; ")
    assert (content(folder), file.read_text(encoding="utf-8")) == ("old", "mine")


def test_an_empty_folder_is_not_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_free(out, force=False)
    make(out, "new")
    assert content(out) == "new"


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/out: cannot be written: "):
        make(tmp_path / "file" / "out", "new")


@pytest.mark.parametrize("old", [False, True])
def test_a_killed_run_leaves_no_half_folder(tmp_path: Path, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        make(out, "old")
    killed_run(out, "writing")
    assert (content(out) == "old") if old else not out.exists()
    assert any(path.name.startswith(".out.tmp-") for path in tmp_path.iterdir())
    make(out, "new", force=old)
    assert content(out) == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    """The old folder stands aside then: it is put back first, and is still protected without force."""
    out = tmp_path / "out"
    make(out, "old")
    killed_run(out, "renaming")
    assert not out.exists()
    with pytest.raises(CheckpointError, match="already exists"):
        check_free(out, force=False)
    assert content(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_only_abandoned_siblings_of_this_folder_are_removed(tmp_path: Path) -> None:
    out, alive, dead = tmp_path / "a*", os.getppid(), dead_pid()
    make(out, "old")
    kept = [f".a*.tmp-{alive}", f".a*.old-{alive}", f".abc.tmp-{dead}", ".a*.tmp-notes", f"a*.tmp-{dead}"]
    gone = [f".a*.tmp-{dead}", f".a*.old-{dead}", f".a*.tmp-{os.getpid()}", f".a*.tmp-{10**30}"]
    for name in [*kept, *gone]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    make(out, "new", force=True)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a*"}
    assert content(out) == "new"
