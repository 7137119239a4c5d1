"""Instructions for tests."""

from __future__ import annotations

from quant.kernels.cost.machine_code import Instruction


def made(
    text: str, *, target: int | None = None, stall: int = 1, sets: tuple[int, int] = (7, 7), waits: int = 0
) -> Instruction:
    """An instruction as nvdisasm would print it: "@P0 ISETP.NE.AND P0, PT, R1, 0x2, PT"."""
    predicate, _, rest = text.partition(" ") if text.startswith("@") else ("@", "", text)
    opcode, _, operands = rest.partition(" ")
    parts = tuple(part.strip() for part in operands.split(",")) if operands else ()
    return Instruction(opcode, parts, predicate[1:], target, stall, sets, waits)
