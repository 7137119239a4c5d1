"""Where in a kernel its main loop is, where it is left, and how one gets there."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from quant.kernels.cost.machine_code import Instruction
from quant.kernels.cost.matrix import dense_products
from quant.kernels.runtime.errors import KernelError


class MainLoop(NamedTuple):
    """The loop that multiplies, by indices of instructions.

    Attributes:
        first: its first instruction.
        last: the branch back to it.
        after: where it is left to.
    """

    first: int
    last: int
    after: int


def main_loop(code: Sequence[Instruction]) -> MainLoop:
    """The shortest loop with matrix instructions: what contains it walks over tiles.

    Raises:
        KernelError: there is none.
    """
    multiplies = [place for place, each in enumerate(code) if dense_products(each.opcode)]
    loops = [
        (place - each.target, each.target, place)
        for place, each in enumerate(code)
        if each.target is not None
        and each.target <= place
        and any(each.target <= inside <= place for inside in multiplies)
    ]
    if not loops:
        raise KernelError("no loop of this kernel has matrix instructions")
    _, first, last = min(loops)
    body = range(first, last + 1)
    exits = {after for place in body for after in successors(code, place) if after not in body}
    # A wait for a barrier may lie elsewhere and comes back: it does not lead to the kernel's end without the loop.
    leading = sorted(place for place in exits if _reaches_end(code, place, body))
    if not leading:
        raise KernelError("the loop of this kernel is never left")
    return MainLoop(first, last, next((place for place in leading if place > last), leading[0]))


def successors(code: Sequence[Instruction], place: int) -> Iterator[int]:
    """Where an instruction may go on. A call is followed like a branch: the compiler leaves loops by calls, too."""
    each = code[place]
    if each.target is not None:
        yield each.target
    ends = each.base in ("EXIT", "RET") or (each.base == "BRA" and each.opcode == "BRA" and each.target is not None)
    if not (ends and not each.predicate) and place + 1 < len(code):
        yield place + 1


def way(code: Sequence[Instruction], start: int, end: int) -> list[int]:
    """The shortest way from one instruction to another, the first included and the last not.

    Raises:
        KernelError: there is none.
    """
    came: dict[int, int] = {start: start}
    waiting = deque([start])
    while waiting and end not in came:
        place = waiting.popleft()
        for after in successors(code, place):
            if after not in came:
                came[after] = place
                waiting.append(after)
    if end not in came:
        raise KernelError("nothing leads to the loop of this kernel")
    found = []
    place = end
    while place != start:
        place = came[place]
        found.append(place)
    return found[::-1]


def _reaches_end(code: Sequence[Instruction], start: int, without: Collection[int]) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        place = waiting.pop()
        if code[place].base == "EXIT":
            return True
        for after in successors(code, place):
            if after not in seen and after not in without:
                seen.add(after)
                waiting.append(after)
    return False
