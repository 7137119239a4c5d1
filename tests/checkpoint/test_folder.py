"""A folder is complete or does not exist: errors, kills at any moment, and what they leave behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from quant.checkpoint import folder
from quant.checkpoint.folder import holding, new_folder
from quant.checkpoint.free import check_free
from quant.checkpoint.manifest import write_manifest
from quant.errors import CheckpointError, QuantWarning
from quant.files.places import CARD_MARK, sync


def killed_run(out: Path, moment: str) -> None:
    """A run that writes and is killed: inside the block, between the two renames at its end, or after them."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        rename = Path.rename
        renamed: list[Path] = []

        def watched(self: Path, target: Path) -> Path:
            if moment == "renaming" and renamed:
                die()
            renamed.append(rename(self, target))
            if moment == "cleaning" and len(renamed) == 2:
                die()
            return renamed[-1]

        Path.rename = watched  # type: ignore[method-assign, assignment]
        try:
            with new_folder(out, force=True) as work:
                write(work, "new")
                if moment == "writing":
                    die()
        finally:
            os._exit(0)  # an error must not go on with the tests in the child
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def write(work: Path, content: str) -> None:
    """What passes for a checkpoint: a file and its manifest."""
    (work / "sub").mkdir()
    (work / "sub" / "file").write_text(content, encoding="utf-8")
    (work / "LICENSE.md").write_text("of the model", encoding="utf-8")
    write_manifest(work, {}, {})


def make(out: Path, content: str, *, force: bool = False) -> None:
    with new_folder(out, force=force) as work:
        write(work, content)


def make_other(out: Path) -> None:
    out.mkdir()
    (out / "other").touch()


def fail(out: Path, error: BaseException) -> None:
    with new_folder(out, force=True) as work:
        (work / "half").write_text("half", encoding="utf-8")
        raise error


def refused(out: Path, *, force: bool) -> str:
    with pytest.raises(CheckpointError) as error:
        check_free(out, force=force)
    with pytest.raises(CheckpointError) as again:
        make(out, "new", force=force)
    assert str(error.value) == str(again.value)
    return str(error.value)


def content(out: Path) -> str:
    return (out / "sub" / "file").read_text(encoding="utf-8")


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with new_folder(out, force=False) as work:
        assert work.parent.parent == out.parent
        assert list(work.iterdir()) == []
        (work / "file").touch()
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["file"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("old", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException, old: bool) -> None:
    out = tmp_path / "made" / "out"
    if old:
        make(out, "old")
    with pytest.raises(type(error)):
        fail(out, error)
    assert list(tmp_path.iterdir()) == ([out.parent] if old else [])
    assert not old or (content(out) == "old" and list(out.parent.iterdir()) == [out])


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
        if self.name == "new":
            raise PermissionError(1, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(CheckpointError, match=r"out: cannot be written: Operation not permitted$"):
        make(out, "new", force=True)
    assert content(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_force_replaces_a_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    (out / "README.md").write_text(f"{CARD_MARK}\n# a card of ours", encoding="utf-8")
    assert refused(out, force=False) == f"{out}: already exists; choose another --out, or replace it with --force"
    make(out, "new", force=True)
    assert content(out) == "new"
    assert not (out / "README.md").exists()
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("quant_manifest.json", None, "was not made by this program"),
        ("quant_manifest.json", "{", "its manifest cannot be read"),
        ("quant_manifest.json", '{"format_version": 99, "files": {}}', "its manifest cannot be read"),
        ("thesis.tex", "years of work", "holds 'thesis.tex', which is no part of the checkpoint"),
        ("sub/thesis.tex", "years of work", "holds 'sub/thesis.tex', which is no part of the checkpoint"),
        ("README.md", "written by hand", "holds 'README.md', which is no part of the checkpoint"),
        ("LICENSE.md", "written by hand", "holds 'LICENSE.md', which was changed after the checkpoint was made"),
        ("LICENSE.md", "OF THE MODEL", "holds 'LICENSE.md', which was changed after the checkpoint was made"),
    ],
)
def test_what_this_program_did_not_make_is_never_replaced(
    tmp_path: Path, path: str, text: str | None, says: str
) -> None:
    out = tmp_path / "out"
    make(out, "old")
    (out / path).unlink(missing_ok=True)
    if text is not None:
        (out / path).write_text(text, encoding="utf-8")
    for force in (False, True):
        assert says in refused(out, force=force)
    assert content(out) == "old"
    assert text is None or (out / path).read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_a_link_in_a_checkpoint_leads_to_is_not_part_of_it(tmp_path: Path) -> None:
    out, videos = tmp_path / "out", tmp_path / "videos"
    make(out, "old")
    videos.mkdir()
    (out / "videos").symlink_to(videos)
    assert "holds 'videos'" in refused(out, force=True)


def test_only_a_folder_can_be_replaced(tmp_path: Path) -> None:
    real, link, file = tmp_path / "real", tmp_path / "link", tmp_path / "file"
    make(real, "real")
    link.symlink_to(real)
    (tmp_path / "dangling").symlink_to("nowhere")
    file.write_text("mine", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    for force in (False, True):
        assert refused(link, force=force).startswith(f"{link}: is a link to '{real}'; give that folder itself")
        assert "is a link to 'nowhere'" in refused(tmp_path / "dangling", force=force)
        assert refused(file, force=force).startswith(f"{file}: is a file; ")
        assert "is a file" in refused(tmp_path / "pipe", force=force)
        assert "is a mount point" in refused(Path("/proc"), force=force)
    assert (content(real), file.read_text(encoding="utf-8")) == ("real", "mine")


@pytest.mark.parametrize("name", ["0" * 300, "0" * 250, "nul\0"])
def test_a_name_that_no_disk_holds_is_one_line_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be written: "), new_folder(tmp_path / name, force=False):
        raise AssertionError("worked")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_not_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_free(out, force=False)
    make(out, "new")
    assert content(out) == "new"


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "out", Path("/dev/null/x")):
        with pytest.raises(CheckpointError, match=rf"{out}: cannot be written: "):
            make(out, "new")


@pytest.mark.parametrize("old", [False, True])
def test_a_killed_run_leaves_no_half_folder(tmp_path: Path, old: bool) -> None:
    out = tmp_path / "out"
    if old:
        make(out, "old")
    killed_run(out, "writing")
    assert (content(out) == "old") if old else not out.exists()
    assert (tmp_path / ".out.quant" / "new" / "sub" / "file").exists()
    make(out, "newer", force=old)
    assert content(out) == "newer"
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    """The old folder stands aside then: it is put back first, and is still protected without force."""
    out = tmp_path / "out"
    make(out, "old")
    killed_run(out, "renaming")
    assert not out.exists()
    with pytest.raises(CheckpointError, match="already exists"):
        make(out, "newer")
    assert content(out) == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_of_a_run_killed_after_its_renames_only_rubbish_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "old")
    killed_run(out, "cleaning")
    assert content(out) == "new"
    assert (tmp_path / ".out.quant" / "old").exists()
    with pytest.raises(CheckpointError, match="already exists"):
        make(out, "newer")
    assert content(out) == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_what_was_put_there_while_the_old_folder_stood_aside_is_kept_and_so_is_that(tmp_path: Path) -> None:
    out, old = tmp_path / "out", tmp_path / ".out.quant" / "old"
    make(out, "old")
    killed_run(out, "renaming")
    make(tmp_path / "moved", "moved")
    (tmp_path / "moved").rename(out)
    with pytest.raises(CheckpointError, match=r"by another program after a killed run had moved its old content to "):
        make(out, "newer", force=True)
    assert (content(out), content(old)) == ("moved", "old")


@pytest.mark.parametrize("force", [False, True])
def test_what_another_program_made_meanwhile_is_not_replaced(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"

    def run() -> None:
        with new_folder(out, force=force) as work:
            write(work, "new")
            make_other(out)

    with pytest.raises(CheckpointError, match="already exists and was not made"):
        run()
    assert [path.name for path in out.iterdir()] == ["other"]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("force", [False, True])
def test_a_second_run_is_refused_while_the_first_works(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    with new_folder(out, force=False) as work:
        with pytest.raises(CheckpointError, match=rf"another process is writing it \(process {os.getpid()} on "):
            make(out, "second", force=force)
        write(work, "first")
    assert content(out) == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_work_is_kept_for_the_run_it_is_of_and_for_no_other(tmp_path: Path) -> None:
    out, run = tmp_path / "out", {"recipe": "a", "dtype": "b", "key": "ab"}
    with holding(out, force=False) as folder:
        assert folder.claim(run) == []
        assert not folder.keeps_work
        folder.journal.write_bytes(b"statistics")
    with holding(out, force=False) as folder:
        assert folder.claim(run) == [] and folder.keeps_work
    with holding(out, force=False) as folder:
        assert folder.claim({**run, "dtype": "c", "key": "ac"}) == ["dtype"]
        assert not folder.keeps_work
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_the_hidden_folder_stay(tmp_path: Path) -> None:
    foreign = tmp_path / ".out.quant" / "mine"
    foreign.parent.mkdir()
    foreign.touch()
    make(tmp_path / "out", "new")
    assert foreign.exists()


@pytest.mark.parametrize("link", ["", "new", "old", "solved", "journal.safetensors.tmp", "solved/a.safetensors.tmp"])
def test_nothing_is_touched_through_a_link(tmp_path: Path, link: str) -> None:
    """Someone else's folder behind a link, whose files have the names of ours."""
    theirs, place = tmp_path / "theirs", tmp_path / ".out.quant" / link
    for name in ("new", "old", "solved"):
        (theirs / name).mkdir(parents=True)
        (theirs / name / "precious").touch()
    (theirs / "run.json").touch()
    before = sorted(theirs.rglob("*"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(theirs)
    with pytest.raises(CheckpointError, match=rf"^{place}: is a link; remove it$"):
        make(tmp_path / "out", "mine")
    assert sorted(theirs.rglob("*")) == before
    assert place.is_symlink() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("number", "finished"), [(0, False), (1, True)])
def test_an_interrupt_while_it_is_renamed_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: int, finished: bool
) -> None:
    """As Ctrl-C comes: just before a rename, or when it is done and nobody knows of it yet."""
    out = tmp_path / "out"
    make(out, "old")
    rename = Path.rename
    renamed: list[Path] = []

    def interrupted(self: Path, target: Path) -> Path:
        renamed.append(target)
        here = len(renamed) == number + 1
        if here and moment == "before":
            raise KeyboardInterrupt
        rename(self, target)
        if here:
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(out, "new", force=True)
    assert content(out) == ("new" if finished and moment == "after" else "old")
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_stands_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems refuse to sync a folder's list of names."""
    out = tmp_path / "out"

    def refusing(path: Path) -> None:
        if path == tmp_path:
            raise OSError(22, "Invalid argument")
        sync(path)

    monkeypatch.setattr(folder, "sync", refusing)
    with pytest.warns(QuantWarning, match=rf"^{out}: is finished, but .*: Invalid argument$"):
        make(out, "new")
    assert content(out) == "new"
    assert list(tmp_path.iterdir()) == [out]
