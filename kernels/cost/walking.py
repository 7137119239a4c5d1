"""The clocks of one warp along a path of machine code, by the compiler's own schedule.

A warp issues in order. The compiler wrote down when the next instruction may issue and which scoreboards it waits for;
how long a scoreboard is set is assumed. Other warps are left out: what they take from each other is reckoned by
throughput, see `model`.

Branches: a predicate that follows from the kernel's argument is known, and decides. Of others, a loop is gone round as
often as is said, a branch over a call is taken, since that is a slow path; any other is not: bounds hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quant.kernels.cost.assumed import L2_LATENCY, LATENCIES, SLOW, value
from quant.kernels.cost.machine_code import Instruction
from quant.kernels.cost.matrix import dense_products, is_asynchronous

#: A branch over a call is short.
_SLOW_PATH = 40
_CONSTANT = re.compile(r"^c\[0x0\]\[(0x[0-9a-f]+)\]$")
_REGISTER = re.compile(r"^(U?R)(\d+)$")
_PREDICATE = re.compile(r"^U?P\d$")
_COMPARE = {
    "EQ": int.__eq__,
    "NE": int.__ne__,
    "GE": int.__ge__,
    "GT": int.__gt__,
    "LE": int.__le__,
    "LT": int.__lt__,
}
#: Opcodes whose first operand is none that they write.
_READERS = ("ST", "BRA", "BAR", "SYNCS", "WARP", "EXIT", "BSYNC", "BSSY", "RED", "DEPBAR", "NOP", "YIELD", "MEMBAR",
            "CCTL", "UTMA", "CALL", "RET", "FENCE", "ERRBAR")  # fmt: skip


class Spent(NamedTuple):
    """What a path takes.

    Attributes:
        clocks: of one warp that has the multiprocessor to itself.
        instructions: issued.
        slow: of those, special functions and conversions.
        products: of its matrix instructions, as `matrix.dense_products` counts.
    """

    clocks: float
    instructions: int
    slow: int
    products: float


class Warp:
    """One warp, and what it knows of its registers."""

    def __init__(self, code: Sequence[Instruction], constants: Mapping[int, int], products_per_clock: float) -> None:
        """At the beginning of a kernel.

        Args:
            code: the kernel's.
            constants: 32-bit words of the constant bank, by their byte.
            products_per_clock: dense 8-bit ones that the warp's own matrix unit does: of the multiprocessor for a
                warpgroup, of a scheduler for a warp.
        """
        self._code = code
        self._constants = constants
        self._rate = products_per_clock
        self._known: dict[str, int] = {}
        self._clock = 0.0
        self._load = LATENCIES["LDG"].value
        self._scoreboards = [0.0] * 6
        self._unit_free = 0.0
        self._groups: list[float] = []
        self._instructions, self._slow, self._products = 0, 0, 0.0

    def spent(self) -> Spent:
        """All since the beginning."""
        return Spent(self._clock, self._instructions, self._slow, self._products)

    def follow(self, places: Sequence[int], *, l1: bool = True) -> None:
        """Issues these instructions, one after the other; `l1`: what they read of global memory is in the L1 cache."""
        self._load = LATENCIES["LDG"].value if l1 else L2_LATENCY.value
        for place in places:
            self._issue(self._code[place])
        self._load = LATENCIES["LDG"].value

    def walk(self, start: int, before: int, *, rounds: int = 1, most: int = 100_000) -> int:
        """Issues from `start` on until the kernel ends or goes back to `before` or further; returns where it ends.

        Args:
            start, before: indices of instructions.
            rounds: how often each loop on the way is gone round.
            most: instructions, after which it ends in any case.
        """
        place, left = start, dict[int, int]()
        for _ in range(most):
            each = self._code[place]
            self._issue(each)
            if each.base == "EXIT" and not each.predicate:
                return place
            if each.base == "BRA" and each.target is not None and self._is_taken(place, each, left, rounds):
                self._clock += value("branch")
                if each.target <= before:
                    return place
                place = each.target
            else:
                place += 1
        return place

    def _is_taken(self, place: int, each: Instruction, left: dict[int, int], rounds: int) -> bool:
        target = place if each.target is None else each.target
        if each.opcode != "BRA":  # .CONV, .DIV and .ANY are for warps whose lanes differ
            return False
        if not each.predicate:
            return True
        known = self._known.get(each.predicate.removeprefix("!"))
        if known is not None:
            return bool(known) != each.predicate.startswith("!")
        if target <= place:
            if any(inside.base == "SYNCS" for inside in self._code[target:place]):
                return False  # waits for a barrier
            left[place] = left.get(place, rounds) - 1
            if left[place] == 0:
                del left[place]
                return False
            return True
        skipped = self._code[place + 1 : target]
        return len(skipped) <= _SLOW_PATH and any(inside.base == "CALL" for inside in skipped)

    def _issue(self, each: Instruction) -> None:
        at = max([self._clock, *(self._scoreboards[i] for i in range(6) if each.waits >> i & 1)])
        products = dense_products(each.opcode)
        if products and is_asynchronous(each.opcode):
            self._unit_free = max(at, self._unit_free) + products / self._rate
            if "gsb0" in each.operands:
                self._groups.append(self._unit_free)
        elif products:
            at = max(at, self._unit_free)
            self._unit_free = at + products / self._rate
        elif each.opcode.startswith("WARPGROUP.DEPBAR"):
            under_way = int(each.operands[1], 16)
            at = max([at, *self._groups[: len(self._groups) - under_way]])
        latency = self._load if each.base == "LDG" else LATENCIES.get(each.base, LATENCIES[""]).value
        for scoreboard, clocks in zip(each.sets, (latency, min(latency, value("operands_read"))), strict=True):
            if scoreboard < 6:
                self._scoreboards[scoreboard] = max(self._scoreboards[scoreboard], at + clocks)
        self._clock = at + max(1, each.stall)
        self._instructions += 1
        self._slow += each.base in SLOW
        self._products += products
        self._learn(each)

    def _learn(self, each: Instruction) -> None:
        """Keeps what is known of registers: moves and comparisons of constants."""
        if not each.operands or each.base.startswith(_READERS):
            return
        first, known = each.operands[0], None
        if not each.predicate:
            if each.base in ("ISETP", "UISETP") and _PREDICATE.match(first) and each.operands[-1] in ("PT", "UPT"):
                one, other = self._value(each.operands[2]), self._value(each.operands[3])
                compare = _COMPARE.get(each.opcode.split(".")[1])
                if one is not None and other is not None and compare is not None:
                    known = int(compare(one, other))
            elif each.opcode in ("LDC", "ULDC", "MOV", "UMOV"):
                known = self._value(each.operands[1])
            elif each.opcode in ("IMAD.MOV.U32", "IMAD.U32") and each.operands[1:3] == ("RZ", "RZ"):
                known = self._value(each.operands[3])
        self._forget(each)
        if known is not None and first not in ("RZ", "URZ", "PT", "UPT"):
            self._known[first] = known

    def _forget(self, each: Instruction) -> None:
        for operand in each.operands[:2]:
            if _PREDICATE.match(operand):
                self._known.pop(operand, None)
        register = _REGISTER.match(each.operands[0]) or (
            _REGISTER.match(each.operands[1]) if len(each.operands) > 1 and _PREDICATE.match(each.operands[0]) else None
        )
        if register is not None:
            wide = 4 if ".128" in each.opcode or each.base == "LDSM" else 2 if re.search("64|WIDE", each.opcode) else 1
            for more in range(wide):
                self._known.pop(f"{register[1]}{int(register[2]) + more}", None)

    def _value(self, operand: str) -> int | None:
        operand = operand.removesuffix(".reuse")
        if operand in ("RZ", "URZ"):
            return 0
        if operand.startswith(("0x", "-0x")):
            return int(operand, 16)
        constant = _CONSTANT.match(operand)
        return self._constants.get(int(constant[1], 16)) if constant is not None else self._known.get(operand)
