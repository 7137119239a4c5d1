"""What was measured is used where it applies; a table is read back as it was written, or refused by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quant.kernels import dispatch, tile_tables
from quant.kernels.matmuls import mma_gemm, mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_gemm import TILES, MmaTile
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.matmuls.sm90_packed import Sm90Packed
from quant.kernels.matmuls.table import matmuls
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.runtime.errors import KernelError
from quant.kernels.tile_tables import (
    Choice,
    Entry,
    Table,
    choose,
    load,
    parse,
    to_json,
    user_table,
)
from tests.kernels.packed_cases import KINDS

SM_80, SM_89, SM_90 = ARCHITECTURES["sm_80"], ARCHITECTURES["sm_89"], ARCHITECTURES["sm_90a"]
INT8, FP8 = "sm80_int8_gemm", "sm89_fp8_gemm"
WGMMA_INT8, WGMMA_FP8 = "sm90_int8_gemm", "sm90_fp8_gemm"
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


SIZES = [st.integers(1, 2**31 - 1)] * 3
ENTRIES = st.builds(Entry, st.sampled_from([INT8, FP8]), *SIZES, st.sampled_from(TILES)) | st.builds(
    Entry, st.sampled_from([WGMMA_INT8, WGMMA_FP8]), *SIZES, st.sampled_from(sm90_gemm.TILES)
)


@given(st.text(), st.lists(ENTRIES).map(tuple))
def test_a_table_survives_its_json(gpu: str, entries: tuple[Entry, ...]) -> None:
    table = Table(gpu, entries)
    found = parse(json.loads(json.dumps(to_json(table))))
    assert found == table
    # Tuples of the same numbers would be equal, whatever they mean.
    assert [type(entry.tile) for entry in found.entries] == [type(entry.tile) for entry in entries]


@given(st.lists(ENTRIES, max_size=5), *SIZES)
def test_whatever_a_table_holds_a_tile_of_the_kernel_is_found(entries: list[Entry], m: int, n: int, k: int) -> None:
    """Entries of other kernels, that have other tiles, are in no one's way."""
    both = (*entries, Entry(INT8, m, n, k, SMALL), Entry(WGMMA_INT8, m, n, k, sm90_gemm.TILES[0]))
    assert isinstance(Table("H100", both).find(INT8, m, n, k), MmaTile)
    assert isinstance(Table("H100", both).find(WGMMA_INT8, m, n, k), HopperTile)


@pytest.mark.parametrize(
    ("m", "tile"),
    [(1, SMALL), (2, MIDDLE), (77, MIDDLE), (78, LARGE), (4096, LARGE), (4097, LARGE), (10**6, LARGE)],
)
def test_an_entry_covers_the_rows_up_to_its_own(m: int, tile: object) -> None:
    assert TABLE.find(INT8, m, 64, 128) == tile


@pytest.mark.parametrize("size", [(INT8, 77, 65, 128), (INT8, 77, 64, 129), (FP8, 77, 64, 256), ("other", 1, 64, 128)])
def test_an_entry_is_about_one_kernel_and_one_weight(size: tuple[str, int, int, int]) -> None:
    assert TABLE.find(*size) is None


def test_every_compiled_matmul_has_tiles_and_nothing_else() -> None:
    ops = ("scaled_mm", "int4_mm", "sparse_scaled_mm")
    compiled = {each.name for each in dispatch.implementations() if each.compiled and each.op in ops}
    assert {name for each in dispatch.implementations() if (name := each.name) in matmuls()} == compiled
    assert "quantize_rows" not in matmuls()
    assert "gemm" not in matmuls()


@pytest.mark.parametrize("small_groups", [False, True])
def test_candidates_of_kernels_with_the_weight_first(small_groups: bool) -> None:
    for kind in KINDS.values():
        hopper = isinstance(kind, Sm90Packed)
        arch, tiles, most = (SM_90, sm90_packed.TILES, 192) if hopper else (SM_89, mma_packed.TILES, 128)
        # Scales by group, and on Ampere and Ada all fragments of four bits, take registers too.
        twice = "fp8" in kind.name or (not kind.sparse and (not hopper or "w4a8" in kind.name))
        room = (most - (64 if hopper and small_groups else 0)) // (2 if twice else 1)
        expected = [tile for tile in tiles if tile.sums <= room and kind.bytes_of(tile) <= arch.shared_bytes_per_block]
        assert matmuls()[kind.name].tiles(arch, fine_scales=small_groups) == expected


@pytest.mark.parametrize("block_scales", [False, True])
def test_candidates_are_of_the_kernel_s_own_kind(block_scales: bool) -> None:
    """Sums are kept twice by FP8 and with scales by block."""
    assert matmuls()[INT8].tiles(SM_80, fine_scales=block_scales) == (
        mma_gemm.FP8_GEMM if block_scales else mma_gemm.INT8_GEMM
    ).tiles(SM_80)
    assert matmuls()[FP8].tiles(SM_89, fine_scales=block_scales) == mma_gemm.FP8_GEMM.tiles(SM_89)
    for name, promoted in ((WGMMA_INT8, block_scales), (WGMMA_FP8, True)):
        expected = (sm90_gemm.FP8_GEMM if promoted else sm90_gemm.INT8_GEMM).tiles(SM_90, fine_scales=block_scales)
        assert matmuls()[name].tiles(SM_90, fine_scales=block_scales) == expected


@pytest.mark.parametrize(
    ("name", "here"), [(INT8, SM_80), (FP8, SM_89), (INT8, SM_90), (WGMMA_INT8, SM_90), (WGMMA_FP8, SM_90)]
)
@pytest.mark.parametrize("block_scales", [False, True])
@given(
    m=st.integers(1, 50_000), n=st.integers(1, 20_000), k=st.integers(1, 20_000), multiprocessors=st.integers(2, 150)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # an empty folder stays one
def test_without_a_table_the_rule_decides(
    shipped: Path, name: str, here: Architecture, block_scales: bool, m: int, n: int, k: int, multiprocessors: int
) -> None:
    found = choose(name, m, n, k, here, multiprocessors, fine_scales=block_scales)
    clocks: dict[Tile, float] = {
        tile: matmuls()[name].clocks(tile, m, n, k, here, multiprocessors)
        for tile in matmuls()[name].tiles(here, fine_scales=block_scales)
    }
    assert found.source == "rule"
    assert clocks[found.tile] == min(clocks.values())


def test_the_rule_is_about_the_multiprocessors_there_are(shipped: Path) -> None:
    assert choose(INT8, 500, 640, 128, SM_80, 7).tile != choose(INT8, 500, 640, 128, SM_80, 108).tile


def test_a_size_that_nobody_measured_follows_the_rule(shipped: Path) -> None:
    write(user_table("sm_80"), to_json(TABLE))
    assert choose(INT8, 500, 640, 128, SM_80, 108).source == "rule"
    assert choose(INT8, 500, 64, 128, SM_80, 108) == Choice(LARGE, "measured on A100")


def test_a_table_is_about_one_architecture(shipped: Path) -> None:
    write(user_table("sm_80"), to_json(TABLE))
    assert load("sm_80") == (TABLE,)
    assert load("sm_86") == ()


def test_the_users_table_comes_before_the_shipped_one(shipped: Path) -> None:
    write(shipped / "sm_80.json", to_json(TABLE))
    assert choose(INT8, 1, 64, 128, SM_80, 108) == Choice(SMALL, "measured on A100")
    write(user_table("sm_80"), to_json(Table("my A100", (Entry(INT8, 1, 64, 128, MIDDLE),))))
    load.cache_clear()
    assert choose(INT8, 1, 64, 128, SM_80, 108) == Choice(MIDDLE, "measured on my A100")
    # Of a size that the user's own lacks, what was shipped still holds.
    assert choose(FP8, 2, 64, 128, SM_80, 108).source == "measured on A100"


def test_the_cache_folder_holds_the_users_table(cache_folder: Path) -> None:
    assert user_table("sm_90a") == cache_folder / "tiles" / "sm_90a.json"


#: A kernel, its architecture, and a tile that is not for scales by block: sums do not fit twice, or two scales a tile.
NOT_BY_BLOCK: list[tuple[str, Architecture, Tile]] = [
    (INT8, SM_80, LARGE),
    (WGMMA_INT8, SM_90, sm90_gemm.TILES[0]),
    (WGMMA_FP8, SM_90, HopperTile(192, 2, 64, 4, 1)),
]


@pytest.mark.parametrize(("name", "here", "tile"), NOT_BY_BLOCK)
@pytest.mark.parametrize("block_scales", [False, True])
def test_a_tile_that_does_not_fit_scales_by_block_is_not_taken_for_them(
    shipped: Path, name: str, here: Architecture, tile: Tile, block_scales: bool
) -> None:
    assert tile in matmuls()[name].tiles(here)
    assert tile not in matmuls()[name].tiles(here, fine_scales=True)
    write(user_table(here.name), to_json(Table("mine", (Entry(name, 4096, 64, 128, tile),))))
    found = choose(name, 4096, 64, 128, here, 108, fine_scales=block_scales)
    assert (found.tile == tile, found.source) == ((False, "rule") if block_scales else (True, "measured on mine"))
    assert found.tile in matmuls()[name].tiles(here, fine_scales=block_scales)


def test_a_tile_that_is_no_longer_there_is_not_taken(shipped: Path) -> None:
    gone = LARGE._replace(stages=17)
    write(user_table("sm_80"), to_json(Table("A100", (Entry(INT8, 1, 64, 128, gone),))))
    assert choose(INT8, 1, 64, 128, SM_80, 108).source == "rule"


GOOD = to_json(TABLE)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[" * 100_000,
        {**GOOD, "format_version": True},
        {**GOOD, "gpu": ["x" * 10_000]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "kernel": "x" * 10_000}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "m": "x" * 10_000}]},
        "",
        [],
        3,
        {},
        {**GOOD, "format_version": 2},
        {"format_version": 1, "gpu": "A100"},
        {"format_version": 1, "gpu": "A100", "entries": [{"kernel": INT8}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "tile": [128, 128]}]},
        {"format_version": 1, "gpu": "A100", "entries": [7]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "kernel": "gemm"}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "kernel": WGMMA_INT8}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "tile": [128, 2, 64, 4, 1]}]},
        {"format_version": 1, "gpu": "A100", "entries": [{**GOOD["entries"][0], "tile": [1.5] * 6}]},
    ],
)
def test_a_damaged_table_is_an_error_that_names_the_file(shipped: Path, body: object) -> None:
    path = write(user_table("sm_89"), body)
    with pytest.raises(KernelError) as caught:
        choose(FP8, 1, 64, 128, SM_89, 128)
    assert str(caught.value).startswith(f"{path}: no tile table")
    assert len(str(caught.value)) < len(str(path)) + 300
    assert str(caught.value).endswith("remove it")
