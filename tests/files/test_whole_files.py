from __future__ import annotations

from pathlib import Path

from quant.files.whole_files import remove_unfinished_of, unfinished_name


def test_what_killed_writers_of_a_file_left_goes_and_nothing_of_others(tmp_path: Path) -> None:
    mine, other = unfinished_name(tmp_path / "a[1].mp4"), unfinished_name(tmp_path / "a1.mp4")
    for path in (mine, other, tmp_path / "a[1].mp4", tmp_path / ".a[1].mp4.part"):
        path.touch()
    remove_unfinished_of(tmp_path / "a[1].mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a[1].mp4", ".a[1].mp4.part", other.name])
