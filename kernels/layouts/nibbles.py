"""Eight 4-bit codes an int32, in the order of compressed-tensors' "pack-quantized".

Column 8j + i is in bits 4i to 4i + 3 of word j, stored + 8, so that a row [-8, -7, -1, 0, 1, 2, 7, 3] is 0xbfa98710.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

NAME = "nibbles"
#: Codes in a word.
WORD = 8
LOWEST, HIGHEST = -8, 7


def pack(codes: torch.Tensor) -> torch.Tensor:
    """Codes int8 [N, K] from -8 to 7 as int32 [N, ceil(K/8)]; the bits behind the last column are 0.

    Raises:
        ValueError: another dtype or rank, or a code that 4 bits do not hold.
    """
    if codes.dtype != torch.int8 or codes.ndim != 2:
        raise ValueError(f"nibbles: codes must be int8 [N, K], got {codes.dtype} {list(codes.shape)}")
    if codes.numel() and not (codes.min() >= LOWEST and codes.max() <= HIGHEST):
        raise ValueError(
            f"nibbles: codes must be from {LOWEST} to {HIGHEST}, got {codes.min().item()} to {codes.max().item()}"
        )
    stored = F.pad(codes - LOWEST, (0, -codes.shape[1] % WORD))
    return join(stored.view(torch.uint8)).view(-1).view(torch.int32).view(len(codes), width(codes.shape[1]))


def unpack(packed: torch.Tensor, k: int) -> torch.Tensor:
    """The codes int8 [N, k] that `pack` was given; whatever is in bits behind the last column is ignored.

    Raises:
        ValueError: not int32 [N, ceil(k/8)].
    """
    if packed.dtype != torch.int32 or packed.ndim != 2 or packed.shape[1] != width(k):
        raise ValueError(f"nibbles: {k} columns are int32 [N, {width(k)}], got {packed.dtype} {list(packed.shape)}")
    stored = split(_copy(packed).view(torch.uint8))[:, :k]
    return stored.view(torch.int8) + LOWEST


def pack_rows(codes: torch.Tensor) -> torch.Tensor:
    """Codes int8 [N, G] as int32 [ceil(N/8), G]: eight rows a word, as zero points are stored. Errors as `pack`."""
    return pack(codes.mT).mT.contiguous()


def unpack_rows(packed: torch.Tensor, n: int) -> torch.Tensor:
    """The codes int8 [n, G] that `pack_rows` was given. Errors as `unpack`, with rows for columns."""
    return unpack(packed.mT, n).mT.contiguous()


def width(k: int) -> int:
    """Words of a row of `k` codes."""
    return -(-k // WORD)


def join(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers below 16, uint8 [..., 2J], two a byte: uint8 [..., J], the first in the low bits."""
    # As 16 bits, a pair is first + second * 256: shifted by 4 and back among the low 8 bits, the second is above.
    pairs = _copy(numbers).view(-1).view(torch.int16)
    return (pairs | pairs >> 4).to(torch.uint8).view(*numbers.shape[:-1], numbers.shape[-1] // 2)


def split(joined: torch.Tensor) -> torch.Tensor:
    """The numbers uint8 [..., 2J] that `join` was given."""
    pairs = _copy(joined).view(-1).to(torch.int16)
    return ((pairs | pairs << 4) & 0x0F0F).view(torch.uint8).view(*joined.shape[:-1], joined.shape[-1] * 2)


def _copy(x: torch.Tensor) -> torch.Tensor:
    """With the strides and the address that a view as another width asks for, also where a dimension is 0 or 1."""
    return x.clone(memory_format=torch.contiguous_format)
