"""Clocks along a path, on instructions whose schedule is written here; and the matrix instructions by their names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quant.kernels.cost.assumed import L2_LATENCY, LATENCIES, value
from quant.kernels.cost.machine_code import Instruction
from quant.kernels.cost.matrix import dense_products
from quant.kernels.cost.paths import main_loop, way
from quant.kernels.cost.walking import Spent, Warp
from quant.kernels.runtime.errors import KernelError
from tests.kernels.cost.made import made

EXIT = made("EXIT")
LOAD = LATENCIES["LDG"].value


def walked(code: Sequence[Instruction], rounds: int = 1, constants: dict[int, int] | None = None) -> Spent:
    warp = Warp(code, constants or {}, 1.0)
    warp.walk(0, -1, rounds=rounds)
    return warp.spent()


@pytest.mark.parametrize(
    ("opcode", "products"),
    [
        ("QGMMA.64x192x32.F32.E4M3.E4M3", 64 * 192 * 32),
        ("IGMMA.SP.64x256x64.S8.S8", 64 * 256 * 64 / 2),
        ("HGMMA.64x128x16.F32.BF16", 64 * 128 * 16 * 2),
        ("HGMMA.SP.64x8x32.F32", 64 * 8 * 32),
        ("IMMA.16832.S8.S8", 16 * 8 * 32),
        ("IMMA.SP.16864.S8.S8", 16 * 8 * 64 / 2),
        ("HMMA.16816.F32.BF16", 16 * 8 * 16 * 2),
        ("FMUL", 0),
        ("WARPGROUP.DEPBAR.LE", 0),
    ],
)
def test_what_a_matrix_instruction_multiplies(opcode: str, products: float) -> None:
    assert dense_products(opcode) == products


def test_stalls_add_up_and_a_scoreboard_is_waited_for() -> None:
    code = [
        made("LDG.E R2, [R4]", stall=3, sets=(0, 7)),
        made("FADD R5, R6, R7", stall=4),
        made("FADD R8, R2, R5", stall=2, waits=0b1),
        EXIT,
    ]
    assert walked(code) == Spent(LOAD + 2 + 1, 4, 0, 0)
    warp = Warp(code, {}, 1.0)
    warp.follow(range(3), l1=False)
    assert warp.spent().clocks == L2_LATENCY.value + 2


def test_registers_that_are_still_read_hold_up_less_long() -> None:
    code = [made("STS [R1], R2", stall=1, sets=(7, 3)), made("MOV R2, R3", stall=1, waits=0b1000), EXIT]
    assert walked(code).clocks == value("operands_read") + 2


def test_slow_instructions_are_counted() -> None:
    assert walked([made("MUFU.EX2 R1, R2"), made("FADD R1, R2, R3"), EXIT]).slow == 1


def test_matrix_instructions_of_a_warp_wait_for_each_other() -> None:
    assert walked([made("IMMA.16832.S8.S8 R4, R8, R12, R4")] * 3 + [EXIT]).clocks == 2 * 4096 + 2


def test_those_of_a_warpgroup_go_on_until_they_are_waited_for() -> None:
    multiply = made("QGMMA.64x8x32.F32.E4M3.E4M3 R24, gdesc[UR16], R24")
    committed = made("QGMMA.64x8x32.F32.E4M3.E4M3 R24, gdesc[UR16], R24, gsb0")
    one_under_way, none = made("WARPGROUP.DEPBAR.LE gsb0, 0x1"), made("WARPGROUP.DEPBAR.LE gsb0, 0x0")
    each = 64 * 8 * 32
    assert walked([multiply, committed, EXIT]).clocks == 3
    assert walked([multiply, committed, none, EXIT]).clocks == 2 * each + 2
    assert walked([committed, committed, one_under_way, EXIT]).clocks == each + 2
    assert walked([committed, committed, none, EXIT]).products == 2 * each


#: A branch over an addition, by what the argument holds; the register is read from it first.
BY_DTYPE = [
    made("LDC R4, c[0x0][0x220]"),
    made("ISETP.NE.AND P1, PT, R4, 0x2, PT"),
    made("@P1 BRA 0x40", target=4),
    made("FADD R1, R2, R3"),
    EXIT,
]


@pytest.mark.parametrize(("dtype", "instructions"), [(2, 5), (0, 4)])
def test_a_branch_by_the_argument_is_known(dtype: int, instructions: int) -> None:
    assert walked(BY_DTYPE, constants={0x220: dtype}).instructions == instructions


def test_a_register_that_was_written_again_is_not_known() -> None:
    code = [BY_DTYPE[0], made("LDG.E.128 R2, [R8]"), *BY_DTYPE[1:2], made("@P1 BRA 0x50", target=5), *BY_DTYPE[3:]]
    assert walked(code, constants={0x220: 0}).instructions == 6  # bounds hold: what the branch skips is walked


def test_loops_go_round_as_often_as_said_and_waits_for_barriers_once() -> None:
    loop = [made("FADD R1, R2, R3"), made("@P0 BRA 0x0", target=0), EXIT]
    assert walked(loop, rounds=4).instructions == 9
    wait = [made("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR9], R9"), made("@!P0 BRA 0x0", target=0), EXIT]
    assert walked(wait, rounds=4).instructions == 3


def test_a_slow_path_by_a_call_is_not_walked() -> None:
    code = [made("@P0 BRA 0x30", target=3), made("MOV R1, 0x30"), made("CALL.REL.NOINC 0x50", target=5), EXIT]
    assert walked(code).instructions == 2


#: Entry, a loop over tiles with the loop that multiplies in it, its wait for a barrier elsewhere, and an epilogue.
KERNEL = [
    made("MOV R1, RZ"),
    made("MOV R2, RZ"),  # a tile
    made("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR9], R9"),
    made("@!P0 BRA 0x90", target=9),
    made("QGMMA.64x8x32.F32.E4M3.E4M3 R24, gdesc[UR16], R24, gsb0"),
    made("@P1 BRA 0x20", target=2),
    made("STG [R1], R24"),
    made("@P2 BRA 0x10", target=1),
    EXIT,
    made("BRA 0x20", target=2),
]


def test_the_loop_that_multiplies_is_found_and_the_way_to_it() -> None:
    loop = main_loop(KERNEL)
    assert loop == (2, 5, 6)
    assert way(KERNEL, 0, loop.first) == [0, 1]
    warp = Warp(KERNEL, {}, 1.0)
    assert warp.walk(loop.after, loop.first) == 8
    assert warp.spent().instructions == 3


def test_a_kernel_without_such_a_loop_is_an_error() -> None:
    with pytest.raises(KernelError, match="no loop of this kernel"):
        main_loop([made("FADD R1, R2, R3"), EXIT])
    with pytest.raises(KernelError, match="never left"):
        main_loop([made("IMMA.16832.S8.S8 R4, R8, R12, R4"), made("BRA 0x0", target=0)])
    with pytest.raises(KernelError, match="nothing leads"):
        way([EXIT, EXIT], 0, 1)
