"""Every mistake is found, under every order of threads, and its correction passes under every one."""

from __future__ import annotations

import re

import pytest

from tests.emulator.case import Case
from tests.emulator.emulator import EmulatorError

# A case, the kinds by which it is found, and what the message says.
RACES = [
    (Case("missing_barrier"), {"race"}, r"(reads|overwrites) byte \d+ of the 1024 of shared memory, unordered"),
    (Case("reused_buffer"), {"race"}, r"with the (read|write) by thread \d+ of block 0 \(reused_buffer.cu:(9|11)\)"),
    (Case("missing_syncwarp", threads=32), {"race"}, "unordered with the write"),
    (Case("warp_before_block"), {"race"}, "unordered with the"),
    (Case("two_blocks", what=0, blocks=2), {"race"}, r"overwrites byte \d+ of buffer 1 .*, unordered with the write"),
    (Case("two_blocks", what=1, blocks=2), {"race"}, "buffer 1"),
]
COPIES = [
    (Case("missing_wait"), {"async in flight"}, r"reads byte \d+ .* while the copy by thread"),
    (Case("wait_leaves_too_many", n=512), {"async in flight"}, r"\(wait_leaves_too_many.cu:8\) is under way"),
    (Case("slot_still_read", n=512), {"race"}, r"unordered with the (read|write) by .* \(slot_still_read.cu:1[45]\)"),
    (Case("own_wait_only"), {"race", "async in flight"}, "reads byte"),
    (Case("store_into_copy"), {"async in flight"}, "overwrites byte .* while the copy"),
    (Case("copied_twice"), {"async in flight"}, "overwrites byte .* while the copy"),
    (Case("too_many_bytes"), {"bad argument"}, "17 bytes"),
]
COLLECTIVES = [
    (Case("barrier_skipped"), {"deadlock"}, "threads 0-31 wait in __syncthreads .*:7.*, threads 32-63 have exited"),
    (Case("two_barriers"), {"divergence"}, "wait in different barriers"),
    (Case("half_a_shuffle"), {"divergence"}, "lanes 0-15 wait in __shfl_xor_sync .*, lanes 16-31 have exited"),
    (Case("two_operations"), {"divergence"}, "lanes 0-15 wait in __shfl_down_sync .*, lanes 16-31 wait in __syncwarp"),
    (Case("lane_left"), {"divergence"}, "lanes 0-30 wait in mma_s8 .*, lanes 31 have exited"),
    (Case("outside_the_mask"), {"divergence"}, "wants the value of lane 17"),
    (Case("not_in_its_mask"), {"divergence"}, "not in its own mask"),
    (Case("part_of_a_warp", threads=40), {"divergence"}, "lanes 0-7 wait in __syncwarp .*, lanes 8-31 do not exist"),
    (Case("endless", threads=1), {"deadlock"}, "runs without end"),
]
ADDRESSES = [
    *(
        (Case("bounds", what), {"out of bounds"}, says)
        for what, says in enumerate(
            (
                "thread 5 .* reads byte 1024 of buffer 0",
                "writes byte 1024 of buffer 1",
                "reads byte 1024 of the 1024 of shared memory",
                "writes byte 1024 of the 1024 of shared memory",
                "reads byte -4 of buffer 0",
                "reads byte -4 of the 1024 of shared memory",
                "reads byte 1024 of buffer 0",
                "wants shared memory and writes byte 1024",
                "wants shared memory and reads byte 1024",
                "reads byte 980 of buffer 0",
                "reads byte 4 of buffer 0",
                "reads address 0, far from any buffer",
            )
        )
    ),
    *(
        (Case("misaligned", what), {"misaligned"}, says)
        for what, says in enumerate(
            (
                "reads 16 bytes at byte 4 of buffer 0",
                "writes 8 bytes at byte 4 of the 1024",
                "writes 16 bytes at byte 4 of the 1024",
                "reads 2 bytes at byte 1 of the 1024",
                "reads 16 bytes at byte 4 of buffer 0",
                "writes 16 bytes at byte 8 of the 1024",
                "reads 16 bytes at byte 4 of the 1024",
            )
        )
    ),
    (Case("uninitialized", 0), {"uninitialized"}, "byte 1020"),
    (Case("uninitialized", 1), {"uninitialized"}, "byte 1020"),
    (Case("uninitialized", 2, threads=32), {"uninitialized"}, "byte 1020"),
    (Case("uninitialized", 3, blocks=3), {"uninitialized"}, "block [12]"),
    (Case("read_only"), {"read-only"}, "writes byte .* of buffer 0"),
    (Case("deep_stack", threads=2), {"stack overflow"}, "local arrays"),
]
METADATA = [
    (
        Case("metadata", 0, threads=32),
        {"bad argument"},
        "thread 13 .* brings metadata whose nibble 4 is 5: 4, 8, 9, 12",
    ),
    (Case("metadata", 1, threads=32), {"bad argument"}, "thread 13 .* nibble 7 is 1"),
    (Case("metadata", 2, threads=32), {"bad argument"}, "thread 5 of block 0 .metadata.cu:.* nibble 0 is 0"),
    (Case("metadata", 3, threads=32), {"bad argument"}, "thread 7 of block 0 .metadata.cu:.* nibble 0 is 0"),
]
CASES = [*RACES, *COPIES, *COLLECTIVES, *ADDRESSES, *METADATA]


def _name(value: object) -> str:
    return f"{value.name}-{value.what}" if isinstance(value, Case) else ""


@pytest.mark.parametrize(("case", "kinds", "says"), CASES, ids=_name)
def test_a_mistake_is_found(case: Case, kinds: set[str], says: str) -> None:
    for seed in range(10):
        for copies in ("random", "early", "late"):
            with pytest.raises(EmulatorError) as caught:
                case.run(correct=False, seed=seed, copies=copies)
            assert caught.value.kind in kinds, caught.value
            assert re.search(says, str(caught.value)), caught.value


@pytest.mark.parametrize("case", [case for case, _, _ in CASES], ids=_name)
def test_its_correction_passes(case: Case) -> None:
    first, _ = case.run(correct=True)
    for seed in range(20):
        out, _ = case.run(correct=True, seed=seed, copies=("random", "early", "late")[seed % 3])
        assert out.equal(first)


def test_what_looks_dangerous_is_allowed() -> None:
    out, _ = Case("allowed").run(correct=True)
    assert out[:8].tolist() == [i + 4 * (i % 8) + (10, 20, 30, 40)[i % 4] for i in range(8)]


def test_a_seed_decides_everything_and_another_seed_something_else() -> None:
    def message(seed: int) -> str:
        with pytest.raises(EmulatorError) as caught:
            Case("missing_barrier").run(correct=False, seed=seed)
        return str(caught.value)

    assert message(7) == message(7)
    assert len({message(seed) for seed in range(10)}) > 1


def test_a_fault_leaves_nothing_behind() -> None:
    for seed in range(5):
        with pytest.raises(EmulatorError):
            Case("wait_leaves_too_many", n=512).run(correct=False, seed=seed)
        Case("wait_leaves_too_many", n=512).run(correct=True, seed=seed)
