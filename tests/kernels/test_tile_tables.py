"""What was measured is used where it applies; a table is read back as it was written, or refused by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels import tile_tables
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.errors import KernelError
from quant.kernels.tile_tables import Choice, Entry, Table, choose, load, parse, to_json, user_table
from quant.kernels.tiles import TILES, candidates, rule

SM_80, SM_89 = ARCHITECTURES["sm_80"], ARCHITECTURES["sm_89"]
INT8, FP8 = "sm80_int8_gemm", "sm89_fp8_gemm"
SMALL, MIDDLE, LARGE = TILES[-1], TILES[4], TILES[0]
TABLE = Table(
    "A100",
    (
        Entry(INT8, 4096, 64, 128, LARGE),
        Entry(INT8, 1, 64, 128, SMALL),
        Entry(INT8, 77, 64, 128, MIDDLE),
        Entry(INT8, 8192, 64, 256, MIDDLE),
        Entry(FP8, 2, 64, 128, MIDDLE),
    ),
)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the user, and nothing remembered."""
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "cache"))
    load.cache_clear()
    yield tmp_path / "cache"
    load.cache_clear()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package's own tables are, empty."""
    monkeypatch.setattr(tile_tables, "files", lambda package: tmp_path / package)
    return tmp_path / "quant.kernels" / "tiles"


def write(path: Path, body: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


ENTRIES = st.builds(Entry, st.sampled_from([INT8, FP8]), *[st.integers(1, 2**31 - 1)] * 3, st.sampled_from(TILES))


@given(st.text(), st.lists(ENTRIES).map(tuple))
def test_a_table_survives_its_json(gpu: str, entries: tuple[Entry, ...]) -> None:
    table = Table(gpu, entries)
    assert parse(json.loads(json.dumps(to_json(table)))) == table


@pytest.mark.parametrize(
    ("m", "tile"),
    [(1, SMALL), (2, MIDDLE), (77, MIDDLE), (78, LARGE), (4096, LARGE), (4097, LARGE), (10**6, LARGE)],
)
def test_an_entry_covers_the_rows_up_to_its_own(m: int, tile: object) -> None:
    assert TABLE.find(INT8, m, 64, 128) == tile


@pytest.mark.parametrize("size", [(INT8, 77, 65, 128), (INT8, 77, 64, 129), (FP8, 77, 64, 256), ("other", 1, 64, 128)])
def test_an_entry_is_about_one_kernel_and_one_weight(size: tuple[str, int, int, int]) -> None:
    assert TABLE.find(*size) is None


def test_without_a_table_the_rule_decides(shipped: Path) -> None:
    tiles = candidates(SM_80, promoted=False)
    expected = Choice(rule(500, 640, 128, tiles, SM_80, 7), "rule")
    assert choose(INT8, 500, 640, 128, SM_80, 7, promoted=False) == expected


def test_a_size_that_nobody_measured_follows_the_rule(shipped: Path) -> None:
    write(user_table("sm_80"), to_json(TABLE))
    assert choose(INT8, 500, 640, 128, SM_80, 108, promoted=False).source == "rule"
    assert choose(INT8, 500, 64, 128, SM_80, 108, promoted=False) == Choice(LARGE, "measured on A100")


def test_a_table_is_about_one_architecture(shipped: Path) -> None:
    write(user_table("sm_80"), to_json(TABLE))
    assert load("sm_80") == (TABLE,)
    assert load("sm_86") == ()


def test_the_users_table_comes_before_the_shipped_one(shipped: Path) -> None:
    write(shipped / "sm_80.json", to_json(TABLE))
    assert choose(INT8, 1, 64, 128, SM_80, 108, promoted=False) == Choice(SMALL, "measured on A100")
    write(user_table("sm_80"), to_json(Table("my A100", (Entry(INT8, 1, 64, 128, MIDDLE),))))
    load.cache_clear()
    assert choose(INT8, 1, 64, 128, SM_80, 108, promoted=False) == Choice(MIDDLE, "measured on my A100")
    # Of a size that the user's own lacks, what was shipped still holds.
    assert choose(FP8, 2, 64, 128, SM_80, 108, promoted=True).source == "measured on A100"


def test_the_cache_folder_holds_the_users_table(cache_folder: Path) -> None:
    assert user_table("sm_90a") == cache_folder / "tiles" / "sm_90a.json"


@pytest.mark.parametrize("promoted", [False, True])
def test_a_tile_whose_sums_do_not_fit_twice_is_not_taken_for_promoted_ones(shipped: Path, promoted: bool) -> None:
    assert LARGE not in candidates(SM_80, promoted=True)
    write(user_table("sm_80"), to_json(TABLE))
    found = choose(INT8, 4096, 64, 128, SM_80, 108, promoted=promoted)
    assert (found.tile == LARGE, found.source) == ((False, "rule") if promoted else (True, "measured on A100"))
    assert found.tile in candidates(SM_80, promoted=promoted)


def test_a_tile_that_is_no_longer_there_is_not_taken(shipped: Path) -> None:
    gone = LARGE._replace(stages=17)
    write(user_table("sm_80"), to_json(Table("A100", (Entry(INT8, 1, 64, 128, gone),))))
    assert choose(INT8, 1, 64, 128, SM_80, 108, promoted=False).source == "rule"


GOOD = to_json(TABLE)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "",
        [],
        3,
        {},
        {**GOOD, "format_version": 2},
        {"format_version": 1, "gpu": "A100"},
        {"format_version": 1, "gpu": "A100", "entries": [{"kernel": INT8}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "tile": [128, 128]}]},
        {"format_version": 1, "gpu": "A100", "entries": [7]},
    ],
)
def test_a_damaged_table_is_an_error_that_names_the_file(shipped: Path, body: object) -> None:
    path = write(user_table("sm_89"), body)
    with pytest.raises(KernelError) as caught:
        choose(FP8, 1, 64, 128, SM_89, 128, promoted=True)
    assert str(caught.value).startswith(f"{path}: no tile table of version 1 (")
    assert str(caught.value).endswith("remove it")
