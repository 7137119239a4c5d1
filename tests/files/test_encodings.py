from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quant.errors import QuantError
from quant.files.encodings import ENCODINGS, encoding_for, encoding_of
from quant.files.video_files import comment_of, read_words, to_bytes
from quant.files.videos import read_video


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.summary)
def test_a_lossless_file_holds_what_it_was_given_and_each_its_comment(tmp_path: Path, encoding) -> None:  # type: ignore[no-untyped-def]
    words = np.random.default_rng(0).integers(0, 65536, (3, 16, 18, 3), dtype=np.uint16)
    path = tmp_path / f"a{encoding.suffix}"
    encoding.write(path, words, fps=12, comment="of this")
    assert comment_of(path) == "of this"
    found = read_video(path)
    assert found.shape == words.shape
    assert np.array_equal(found, to_bytes(words)) == (encoding.lossless and encoding.suffix == ".mp4")
    if encoding.suffix == ".mkv":
        assert np.array_equal(read_words(path), words)


def test_what_is_taken_for_a_name() -> None:
    playable, deep, exact = ENCODINGS
    assert encoding_of(Path("a.MP4"), lossless=False) is playable
    assert encoding_of(Path("a.mp4"), lossless=True) is exact
    assert encoding_of(Path("a.mkv"), lossless=False) is encoding_of(Path("a.mkv"), lossless=True) is deep
    assert (encoding_for(lossless=False), encoding_for(lossless=True)) == (playable, deep)
    with pytest.raises(QuantError, match=r"^a\.gif: is to be a video; name it \.mp4 or \.mkv$"):
        encoding_of(Path("a.gif"), lossless=False)


def test_what_is_no_video_has_no_comment(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert comment_of(tmp_path / "a.mp4") is None
