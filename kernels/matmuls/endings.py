"""The epilogues with which every matmul is compiled, so that its machine code can be checked."""

from __future__ import annotations

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host import epilogue as endings

_BIAS, _ONE_SCALE = endings.PARTS["bias"], endings.PARTS["one_b_scale"]
_EVERY_PART = sum(endings.PARTS.values()) - _ONE_SCALE


def usual() -> dict[str, int]:
    """Macros of a bf16 result with a bias."""
    return _ending(torch.bfloat16, "none", _BIAS, endings.NO_BLOCKS, True)


def by_block() -> dict[str, int]:
    """Macros of a bf16 result with scales by block."""
    return _ending(torch.bfloat16, "none", 0, endings.BLOCKS_OF_BOTH, True)


def others(codes: torch.dtype) -> list[dict[str, int]]:
    """Ways to end that together have every output, activation and part, aligned and not."""
    ways = (
        (torch.float16, "gelu", _BIAS, True),
        (codes, "gelu_tanh", _BIAS, True),
        (torch.float32, "silu", _ONE_SCALE, False),
        (torch.bfloat16, "none", _EVERY_PART, True),
        (torch.bfloat16, "none", _EVERY_PART, False),
    )
    return [_ending(out, act, parts, endings.NO_BLOCKS, aligned) for out, act, parts, aligned in ways]


def _ending(out: torch.dtype, activation: str, parts: int, blocks: int, aligned: bool) -> dict[str, int]:
    one = torch.ones(1, 1, dtype=torch.float32, device="cpu")
    plain = Epilogue(one, one, activation=activation, out_dtype=out)
    return endings.defines(plain, parts=parts, blocks=blocks, aligned=aligned)
