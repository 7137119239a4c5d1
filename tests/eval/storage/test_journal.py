from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import QuantError
from quant.eval.storage.journal import append, read

RECORDS = st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=4), max_size=6)


@given(RECORDS, st.data())
def test_a_cut_at_any_byte_loses_the_last_records_only(records: list[dict[str, object]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "made-0.jsonl"
        ends = [0]
        for record in records:
            append(path, record)
            ends.append(path.stat().st_size)
        size = data.draw(st.integers(0, ends[-1]), label="cut at")
        if records:
            with path.open("r+b") as file:
                file.truncate(size)
        whole = sum(end <= size for end in ends) - 1
        assert list(read(folder, "made")) == records[:whole]
        append(path, {"next": "µ"})
        assert list(read(folder, "made")) == [*records[:whole], {"next": "µ"}]


def test_a_long_torn_line_is_cut_off_whole(tmp_path: Path) -> None:
    path = tmp_path / "made-0.jsonl"
    append(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    append(path, {"b": 2})
    assert list(read(tmp_path, "made")) == [{"a": 1}, {"b": 2}] and path.stat().st_size < 200


def test_records_of_all_writers_are_read_but_of_one_kind(tmp_path: Path) -> None:
    append(tmp_path / "made-1.jsonl", {"rank": 1})
    append(tmp_path / "made-0.jsonl", {"rank": 0})
    append(tmp_path / "scored-0.jsonl", {"rank": 9})
    assert list(read(tmp_path, "made")) == [{"rank": 0}, {"rank": 1}]
    assert list(read(tmp_path / "absent", "made")) == []


def test_a_score_that_was_changed_is_found(tmp_path: Path) -> None:
    path = tmp_path / "made-0.jsonl"
    append(path, {"psnr": 31.25})
    path.write_text(path.read_text().replace("31.25", "41.25"))
    with pytest.raises(QuantError, match="line 1 is damaged"):
        list(read(tmp_path, "made"))


@pytest.mark.parametrize("line", [b"{\n", b"\n", b"[1]\n", b"\xff\n", b'{"a": 2}\n', b"[" * 100_000 + b"\n"])
def test_a_damaged_line_that_ends_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "made-0.jsonl"
    append(path, {"a": 1})
    path.write_bytes(path.read_bytes() + line + json.dumps({"b": 2}).encode() + b"\n")
    with pytest.raises(QuantError, match=r"made-0.jsonl: line 2 is damaged: delete that line"):
        list(read(tmp_path, "made"))


def test_what_json_has_no_word_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(tmp_path / "made-0.jsonl", {"a": float("nan")})
    assert not (tmp_path / "made-0.jsonl").exists()
