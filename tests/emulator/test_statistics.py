"""Bank conflicts and sectors, against what counting by hand gives."""

from __future__ import annotations

import pytest

from tests.emulator.case import Case

STORES, LOADS, LDMATRIX, COPIES = "shared_store", "shared_load", "ldmatrix", "copy"


@pytest.mark.parametrize(
    ("what", "kind", "phases", "conflicts"),
    [
        (0, LDMATRIX, 4, 12),  # rows of 64 bytes: 8 rows meet in 2 of 8 groups of banks
        (1, LDMATRIX, 4, 0),
        (2, STORES, 1, 0),
        (3, STORES, 1, 31),
        (4, STORES, 1, 0),
        (5, STORES, 1, 15),
        (6, LOADS, 1, 0),  # a broadcast
        (7, LOADS, 2, 0),
        (8, LOADS, 4, 0),
        (9, LOADS, 4, 4),  # 8 lanes, 32 bytes apart, meet in every second group
        (10, COPIES, 4, 0),
        (11, COPIES, 4, 28),
    ],
)
def test_bank_conflicts(what: int, kind: str, phases: int, conflicts: int) -> None:
    _, counts = Case("banks", what, threads=32, n=1100).run(correct=True)
    assert (getattr(counts, f"{kind}_phases"), getattr(counts, f"{kind}_conflicts")) == (phases, conflicts)


@pytest.mark.parametrize(
    ("what", "bytes_read", "sectors"),
    [
        (0, 128, 4),
        (1, 128, 32),
        (2, 128, 1),
        (3, 512, 16),
        (4, 128, 5),
        (5, 64, 2),
        (6, 500, 16),
        (7, 192, 8),  # 32 lanes, then 16 that reach into the same sectors as 32 would
    ],
)
def test_sectors(what: int, bytes_read: int, sectors: int) -> None:
    for seed in range(5):
        _, counts = Case("sectors", what, threads=32).run(correct=True, seed=seed)
        assert (counts.global_bytes_read, counts.global_sectors_read) == (bytes_read, sectors)
        assert (counts.global_bytes_written, counts.global_sectors_written) == (128, 8)


def test_every_warp_counts() -> None:
    _, counts = Case("sectors", 0, threads=128, n=512).run(correct=True)
    assert (counts.global_bytes_read, counts.global_sectors_read) == (512, 16)


@pytest.mark.parametrize(("what", "conflicts"), [(0, 12), (1, 0)])
def test_bank_conflicts_of_stmatrix(what: int, conflicts: int) -> None:
    _, counts = Case("stmatrix_banks", what, threads=32, cluster=1).run(correct=True)
    assert (counts.stmatrix_phases, counts.stmatrix_conflicts) == (4, conflicts)


def test_what_engines_do_is_counted() -> None:
    _, counts = Case("sums_early", threads=128, n=2048, cluster=1).run(correct=True)
    assert (counts.wgmma, counts.tma_bytes_read, counts.tma_bytes_written) == (1, 8192, 0)
    _, counts = Case("staging", cluster=1).run(correct=True)
    assert (counts.wgmma, counts.tma_bytes_read, counts.tma_bytes_written) == (0, 0, 1024)
    _, counts = Case("multicast", threads=128, n=2048, blocks=2, cluster=2).run(correct=True)
    assert counts.tma_bytes_read == 2 * 8192  # once for both blocks
