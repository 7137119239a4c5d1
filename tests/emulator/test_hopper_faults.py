"""Mistakes with Hopper's instructions are found under every order of threads and every timing of what works beside
them, and their corrections pass."""

from __future__ import annotations

import re

import pytest

from tests.emulator.case import Case
from tests.emulator.emulator import EmulatorError

EARLY = {"uninitialized", "async in flight", "race"}  # what a look at a copy that may not have landed can be

# A case, the kinds by which each WHAT is found, and what the message says.
FAULTS: list[tuple[Case, set[str], str]] = []


def add(case: Case, *found: tuple[set[str], str]) -> None:
    """A file of cases, its WHAT in order."""
    FAULTS.extend((case._replace(what=what), kinds, says) for what, (kinds, says) in enumerate(found))


add(
    Case("full_barrier", cluster=1),
    (EARLY, "reads byte"),
    (EARLY | {"deadlock"}, "reads byte|threads .* wait in mbarrier_wait"),
    (EARLY, r"(reads|overwrites) byte"),
    ({"deadlock"}, "wait in mbarrier_wait"),
    (EARLY | {"exited block"}, "reads byte|block 0 ends"),
    ({"deadlock"}, "threads 0-63 wait in mbarrier_wait"),
    (EARLY, "reads byte"),
)
add(
    Case("empty_barrier", cluster=1),
    ({"mbarrier", "race"}, r"where all 1 arrivals|overwrites byte .*, unordered with the (read|write)"),
    ({"deadlock"}, "threads 0-31 wait in mbarrier_wait .*, threads? 32 wait in mbarrier_wait"),
    ({"race", "async in flight"}, r"(overwrites|reads) byte"),
    ({"mbarrier", "race"}, "where all 31 arrivals|unordered with the read"),
    ({"mbarrier", "race"}, "where all 32 arrivals|unordered with the read"),
)
add(
    Case("mbarrier_use", cluster=1),
    ({"mbarrier"}, "the mbarrier at byte 3072 of block 0, which nobody has initialised"),
    ({"mbarrier", "race"}, "which nobody has initialised|unordered with its initialisation by thread 0"),
    ({"mbarrier"}, "initialises the mbarrier .* a second time"),
    ({"mbarrier"}, "thread 5 of block 0 .* reads byte 3072 .*, which is an mbarrier since thread 0"),
    ({"mbarrier"}, "thread 5 of block 0 .* overwrites byte 3072 .*, which is an mbarrier"),
    ({"bad argument"}, "waits for the parity 2"),
    ({"bad argument"}, "with 0 arrivals"),
    ({"mbarrier"}, "where all 1 arrivals of phase 0 have been"),
    ({"mbarrier"}, "overwrites byte 2048 .*, which is an mbarrier"),
    ({"missing fence"}, "without an mbarrier_init_fence after its initialisation by thread 0"),
    ({"missing fence"}, "without an mbarrier_init_fence after its initialisation by thread 0"),
    ({"misaligned"}, "8 bytes at byte 3076"),
    ({"out of bounds"}, "wants shared memory"),
)
add(
    Case("proxy_fence", cluster=1),
    ({"missing fence"}, "a store of thread 0 .* reads byte .*, without a fence_async after the write by thread"),
    ({"missing fence"}, "after the write by thread [1-9]"),
    ({"missing fence"}, "a store of thread 0"),
    ({"missing fence"}, "a store of thread 0"),
    ({"missing fence"}, "thread 0 of block 0 .* overwrites byte .*, without a fence_async"),
    ({"missing fence"}, "after the write by thread .* .proxy_fence.cu:1[56]"),
    ({"missing fence"}, "after the write by thread .* .proxy_fence.cu:"),
)
add(
    Case("staging", cluster=1),
    ({"race"}, "overwrites byte .*, unordered with the read by a store of thread 0 of block 0"),
    ({"race"}, "unordered with the read by a store of thread 0"),
    ({"race"}, "unordered with the read by a store of thread 0"),
    ({"race"}, "unordered with the read by a store of thread 0"),
    ({"async in flight"}, "thread 0 of block 0 ends while a store .* may still read shared memory"),
    ({"async in flight"}, "thread 0 of block 0 ends while a store .* may still read shared memory"),
    ({"race"}, "overwrites byte .*, unordered with the read by a store|a store of thread 0 .* reads byte"),
)
add(
    Case("boxes", blocks=2, n=512, cluster=1),
    ({"misaligned"}, "writes 1024 bytes at byte 512"),
    ({"misaligned"}, "reads 1024 bytes at byte"),
    ({"out of bounds"}, "wants shared memory and writes byte 6144 of the 6208"),
    ({"bad argument"}, "uses no tensor map"),
    ({"bad argument"}, "at an address that is no multiple of 64"),
    ({"race"}, "overwrites byte .* of buffer 1 .*, unordered with the write by thread 0 of block [01]"),
    ({"read-only"}, "writes byte 0 of buffer 0"),
    ({"uninitialized"}, "a store of thread 0 .* reads byte"),
    ({"race"}, "of buffer 1"),
)
add(
    Case("wgmma_use", threads=128, n=2048, cluster=1),
    ({"async in flight"}, "ends and has not waited for wgmma of warpgroup 0 of block 0"),
    ({"async in flight"}, "ends and has not waited for wgmma of warpgroup 0 of block 0"),
    ({"missing fence"}, "starts a wgmma without a wgmma_fence"),
    ({"missing fence"}, "starts a wgmma without a wgmma_fence"),
    ({"bad argument"}, "thread 77 of its warpgroup bring different operands"),
    ({"bad argument"}, "thread 96 of its warpgroup bring different operands"),
    ({"bad argument"}, "the swizzle mode 3"),
    ({"bad argument"}, "8 rows at a distance of 2048 bytes"),
    ({"bad argument"}, "a start in the middle of the swizzle's pattern"),
    ({"out of bounds"}, "wgmma of warpgroup 0 of block 0 .* reads byte"),
    ({"deadlock"}, "threads 0-95 wait in wgmma_s8 .*, threads 96-127 have exited"),
    ({"divergence"}, "threads of a warpgroup are at different places"),
    ({"missing fence"}, "wgmma of warpgroup 0 .* reads byte .*, without a fence_async after the write by thread"),
    ({"race"}, "thread 0 .* overwrites byte .*, unordered with the read by wgmma of warpgroup 0"),
    ({"race"}, "thread 0 .* overwrites byte 40 .*, unordered with the read by wgmma of warpgroup 0"),
    (EARLY, "wgmma of warpgroup 0 of block 0 .* reads byte"),
    ({"async in flight"}, "adds to registers that are in another wgmma's sums"),
    ({"divergence"}, "have committed or waited for different groups"),
)
add(
    Case("sparse_wgmma", threads=128, n=2048, cluster=1),
    ({"bad argument"}, "thread 77 .* brings metadata whose nibble 0 is 15"),
    ({"bad argument"}, "thread 100 .* brings metadata whose nibble 7 is 1"),
    ({"bad argument"}, "a start in the middle of the swizzle's pattern"),
    ({"bad argument"}, "8 rows at a distance of 1024 bytes, not 512"),
    ({"bad argument"}, "rows of 32 bytes that leave the swizzle's 64"),
    ({"bad argument"}, "rows of 64 bytes that leave the swizzle's 128"),
    ({"async in flight"}, "adds to registers that are in another wgmma's sums"),
    ({"out of bounds"}, "wgmma of warpgroup 0 of block 0 .* reads byte"),
)
add(
    Case("lent_registers", threads=128, n=2048, cluster=1),
    *[({"async in flight"}, "thread .* has overwritten registers that wgmma of warpgroup 0 .* reads until wgmma_wait")]
    * 2,
    ({"async in flight"}, "thread 70 of block 0 has overwritten registers that wgmma of warpgroup 0 .* reads"),
    ({"async in flight"}, "has overwritten registers that wgmma .* reads until wgmma_wait, or they were gone before"),
)
add(
    Case("named_barrier", threads=96, cluster=1),
    ({"deadlock"}, "threads 0-63 wait in barrier_sync .*, threads 64-95 have exited"),
    ({"race", "uninitialized"}, "reads byte|overwrites byte"),
    ({"bad argument"}, "barrier 1 of (64|96) threads in .*, barrier 1 of (64|96)"),
    ({"bad argument"}, "48 threads in barrier_sync"),
    ({"bad argument"}, "barrier 0 in barrier_sync"),
    ({"deadlock"}, "threads 0-63 wait in barrier_sync"),
    ({"divergence", "uninitialized", "race"}, "do not come together|reads byte|overwrites byte"),
)
add(
    Case("registers", threads=128, cluster=1),
    ({"bad argument"}, "42 registers in registers_decrease"),
    ({"bad argument"}, "264 registers in registers_increase"),
    ({"deadlock"}, "threads 0-31 wait in registers_decrease .*, threads 32-127 have exited"),
)
FAULTS.append((Case("registers", 3, threads=64, cluster=1), {"divergence"}, "needs 128 threads: there are 64"))
add(
    Case("remote_arrival", blocks=2, cluster=2),
    ({"deadlock"}, "threads 0-63 wait in mbarrier_wait_cluster"),
    ({"exited block"}, "reaches into block 1, which has exited|block 1 ends, and nothing makes it wait for thread"),
    ({"mbarrier", "race"}, "which nobody has initialised|unordered with its initialisation"),
    ({"race"}, "reads byte .* of buffer 1 .*, unordered with the write by thread .* of block 1"),
    (
        {"mbarrier", "exited block", "race"},
        "where all 64|which has exited|nothing makes it wait|reads byte .* buffer 1",
    ),
    ({"bad argument"}, "reaches into block 2 of a cluster of 2"),
    ({"exited block"}, "reaches into block 0, which has exited|block 0 ends, and nothing makes it wait for thread"),
)
add(
    Case("multicast", threads=128, n=2048, blocks=2, cluster=2),
    ({"exited block"}, "which has exited|block 1 ends"),
    ({"race", "async in flight"}, "overwrites byte|reads byte"),
    ({"deadlock"}, "mbarrier_wait"),
    ({"mbarrier", "race"}, "which nobody has initialised|unordered with its initialisation"),
    ({"bad argument"}, "reaches into block 2 of a cluster of 2"),
    ({"bad argument"}, "copies to no block"),
    ({"race"}, "of shared memory of block 1, unordered with the (write|read)"),
    ({"race"}, "of shared memory of block 1, unordered with the read by thread"),
)

# Faults that only the numbers show.
MISMATCHES = [
    Case(name, what, threads=128, n=2048, cluster=1) for name in ("sums_early", "sparse_numbers") for what in range(4)
]


def _name(value: object) -> str:
    return f"{value.name}-{value.what}" if isinstance(value, Case) else ""


@pytest.mark.parametrize(("case", "kinds", "says"), FAULTS, ids=_name)
def test_a_mistake_is_found(case: Case, kinds: set[str], says: str) -> None:
    for seed in range(6):
        for copies in ("random", "early", "late"):
            with pytest.raises(EmulatorError) as caught:
                case.run(correct=False, seed=seed, copies=copies)
            assert caught.value.kind in kinds, caught.value
            assert re.search(says, str(caught.value)), caught.value


@pytest.mark.parametrize("case", [case for case, _, _ in FAULTS] + MISMATCHES, ids=_name)
def test_its_correction_passes(case: Case) -> None:
    first, _ = case.run(correct=True)
    for seed in range(12):
        out, _ = case.run(correct=True, seed=seed, copies=("random", "early", "late")[seed % 3])
        assert out.equal(first)


@pytest.mark.parametrize("case", MISMATCHES, ids=_name)
def test_a_mistake_shows_in_the_numbers(case: Case) -> None:
    right, _ = case.run(correct=True)
    for copies in ("random", "early", "late"):
        wrong, _ = case.run(correct=False, copies=copies)
        assert not wrong.equal(right)
