import os
from pathlib import Path

from quant.files import is_file, is_folder


def test_every_path_has_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert is_file(tmp_path / "file") and not is_folder(tmp_path / "file")
    assert is_folder(tmp_path) and not is_file(tmp_path)
    below = tmp_path / "file" / "below"
    for path in (tmp_path / "pipe", Path("/dev/null"), below, Path("n" * 5000), Path("a\0b"), Path("a\udc80b"), Path()):
        assert not is_file(path)
        assert is_folder(path) == (path == Path())
