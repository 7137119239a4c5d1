"""What lies behind a buffer is nothing, wherever the tensors were allocated."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from quant.kernels.runtime.launch import Build, Launch
from tests.emulator.emulator import EmulatorError, Program, compile_kernel
from tests.emulator.placement import GAP, Placement
from tests.emulator.ranges import ranges

POKE = """#include "ptx.cuh"
struct Arguments { const s32* in; s32* out; s64 at; };
extern "C" __global__ void poke(const __grid_constant__ Arguments args) { args.out[args.at] = args.in[0]; }
"""


class Arguments(ctypes.Structure):
    _fields_ = (("input", ctypes.c_void_p), ("out", ctypes.c_void_p), ("at", ctypes.c_int64))


def poke(given: torch.Tensor, out: torch.Tensor, at: int, *others: torch.Tensor) -> None:
    """Writes given[0] into out[at]; `others` are read-only buffers of the same launch."""
    launch = Launch(Build("poke", ()), 1, (1, 1), 0, Arguments(given.data_ptr(), out.data_ptr(), at))
    buffers = [(given, False), (out, True), *((other, False) for other in others)]
    program().run(launch, buffers)


def program() -> Program:
    return compile_kernel(Build("poke", ()), "sm_80", sources={"poke.cu": POKE, "ptx.cuh": ""})


def neighbours(shift: int) -> Sequence[torch.Tensor]:
    """An output and a read-only tensor that begins `shift` elements behind it, each in a storage of its own."""
    memory = bytearray(8192)
    return tuple(torch.frombuffer(memory, dtype=torch.int32, count=64, offset=4 * at) for at in (0, 64 + shift))


@pytest.mark.parametrize("shift", [0, 1, 16, 640])
def test_what_leaves_a_buffer_is_out_of_bounds_whatever_lies_behind_it(shift: int) -> None:
    out, behind = neighbours(shift)
    with pytest.raises(EmulatorError, match=r"writes byte \d+ of buffer 1 ") as caught:
        poke(torch.ones(1, dtype=torch.int32), out, 64 + shift, behind)
    assert caught.value.kind == "out of bounds"


def test_results_come_back_and_only_into_what_may_be_written() -> None:
    whole = torch.arange(256, dtype=torch.int32).reshape(16, 16)
    poke(torch.tensor([7], dtype=torch.int32), whole[4:8], 3)
    expected = torch.arange(256, dtype=torch.int32).reshape(16, 16)
    expected[4, 3] = 7
    assert torch.equal(whole, expected)


def test_places_follow_from_the_order_of_the_tensors_alone() -> None:
    first, second = torch.arange(5.0), torch.arange(3.0)
    for tensors in ([first, second], [second, first]):
        placement = Placement(tensors)
        one, other = (placement.moved(each.data_ptr()) for each in tensors)
        assert one + GAP <= other < one + GAP + 2 * 4096
        assert one % 64 == tensors[0].data_ptr() % 64
        runs = [run for each in tensors for run in ranges(each, 0)]
        for moved, run in zip(placement.copied_in(runs), runs, strict=True):
            assert ctypes.string_at(moved.base, moved.bytes) == ctypes.string_at(run.base, run.bytes)
        assert placement.moved(12) == 12
        placement.close()


def test_views_of_one_storage_stay_together() -> None:
    whole = torch.arange(64)
    even, odd = whole[::2], whole[1::2]
    placement = Placement([even, torch.ones(1), odd])
    assert placement.moved(odd.data_ptr()) - placement.moved(even.data_ptr()) == whole.element_size()
    placement.close()


def test_addresses_that_cannot_be_had_are_said_to_be_what_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("tests.emulator.placement.mmap.mmap", refuse)
    with pytest.raises(RuntimeError, match=r"GiB of addresses .*Cannot allocate memory; the emulator needs `ulimit -v"):
        Placement([torch.zeros(1)])
