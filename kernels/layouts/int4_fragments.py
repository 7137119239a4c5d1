"""4-bit codes in the order of the left operand of `mma` and of `wgmma` with that operand in registers.

With l = 4g + t, r the operand's register, row a block's, column a slab's, and a word 8 codes from the low bits on:

    int4_fragments_16, for bf16 and fp16: word i is k16 step i; nibble r + 4b has row g + 8(r & 1), column
        16i + 2t + b + 8(r >> 1), as code + 8
    int4_fragments_8, for int8 and e4m3: words 2s and 2s + 1 are k32 step s, the first with registers 0 and 1, the
        second with 2 and 3; of register r, row g + 8(r & 1), column 32s + 4t + b + 16(r >> 1) is in nibble
        2b + (r & 1), in two's complement

So a kernel makes two elements of 16 bits, or four of 8, of a word by one mask or two.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quant.kernels.layouts import fragments, nibbles
from quant.kernels.layouts.fragments import BLOCK, LANES, blocks_of, slabs_of

NAME_16 = "int4_fragments_16"
NAME_8 = "int4_fragments_8"
NAMES = (NAME_16, NAME_8)
#: Of a lane and a slab.
WORDS = 4
#: Eight codes 0, stored as code + 8; also what turns that into two's complement.
_EIGHTS = 0x88888888 - 2**32


def shape(n: int, k: int) -> tuple[int, ...]:
    """Shape of the codes of a weight [n, k]."""
    return slabs_of(k), blocks_of(n), LANES, WORDS


def groups_width(n: int) -> int:
    """Scales or zero points of each group of a weight with n rows."""
    return blocks_of(n) * BLOCK


def pack(packed: torch.Tensor, k: int, layout: str) -> torch.Tensor:
    """Codes as `nibbles.pack` has them, in the order of the lanes.

    Args:
        packed: int32 [N, ceil(k/8)]; whatever is in bits behind the last column is ignored.
        k: columns.
        layout: one of `NAMES`.

    Returns:
        int32 [slabs, blocks, 32, 4]; codes behind the last row and column are 0.

    Raises:
        ValueError: another dtype or shape, or no such layout.
    """
    _check_name(layout)
    if packed.dtype != torch.int32 or packed.ndim != 2 or packed.shape[1] != nibbles.width(k):
        raise ValueError(
            f"{layout}: {k} columns are int32 [N, {nibbles.width(k)}], got {packed.dtype} {list(packed.shape)}"
        )
    blocks, slabs = blocks_of(len(packed)), slabs_of(k)
    if not packed.numel():
        return packed.new_empty(shape(len(packed), k))
    rows = _padded(packed, k, blocks * BLOCK, slabs * 8).view(blocks, 2, 8, slabs * 8)
    words = packed.new_empty(slabs, blocks, 8, 4, WORDS)
    for here in _chunks(rows):
        low, high = (row.clone(memory_format=torch.contiguous_format) for row in rows[here].unbind(1))
        _swap(low, high, 4, 0x0F0F0F0F)
        (_put_8 if layout == NAME_8 else _put_16)(words[:, here], low, high)
    return words.view(slabs, blocks, LANES, WORDS)


def unpack(words: torch.Tensor, n: int, k: int, layout: str) -> torch.Tensor:
    """The int32 [n, ceil(k/8)] that `pack` was given, zeros in bits behind the last column.

    Raises:
        ValueError: another dtype or shape, or no such layout.
    """
    _check_name(layout)
    blocks, slabs = blocks_of(n), slabs_of(k)
    if words.dtype != torch.int32 or words.shape != shape(n, k):
        raise ValueError(
            f"{layout}: codes [{n}, {k}] are int32 {list(shape(n, k))}, got {words.dtype} {list(words.shape)}"
        )
    if not words.numel():
        return words.new_empty(n, nibbles.width(k))
    lanes = fragments.whole(words).view(slabs, blocks, 8, 4, WORDS)
    rows = words.new_empty(blocks, 2, 8, slabs * 8)
    for here in _chunks(rows):
        low, high = (_taken_8 if layout == NAME_8 else _taken_16)(lanes[:, here])
        _swap(low, high, 4, 0x0F0F0F0F)
        rows[here, 0], rows[here, 1] = low, high
    found = rows.view(blocks * BLOCK, slabs * 8)[:n, : nibbles.width(k)].contiguous()
    if k % nibbles.WORD:
        found[:, -1] &= (1 << 4 * (k % nibbles.WORD)) - 1
    return found


def pack_groups(x: torch.Tensor) -> torch.Tensor:
    """Scales or zero points [N, G] as [G, 16 * blocks], zeros behind the last row.

    A block's lie together, rows g and g + 8, those of a lane, next to each other: it reads both at once.
    """
    n, groups = x.shape
    out = x.new_zeros(groups, groups_width(n))
    out[:, :n] = x.T
    return out.view(groups, blocks_of(n), 2, BLOCK // 2).mT.reshape(out.shape)


def unpack_groups(x: torch.Tensor, n: int) -> torch.Tensor:
    """The [n, G] that `pack_groups` was given.

    Raises:
        ValueError: not of so many rows.
    """
    if x.ndim != 2 or x.shape[1] != groups_width(n):
        raise ValueError(f"int4_fragments: groups of {n} rows are [G, {groups_width(n)}], got {list(x.shape)}")
    rows = x.reshape(len(x), blocks_of(n), BLOCK // 2, 2).mT.reshape(x.shape)
    return rows[:, :n].T.contiguous()


def _check_name(layout: str) -> None:
    if layout not in NAMES:
        raise ValueError(f"int4_fragments: no layout is called '{layout}'; there are {', '.join(NAMES)}")


def _chunks(rows: torch.Tensor) -> Iterator[slice]:
    return fragments.chunks(len(rows), rows[:1].numel() * rows.itemsize, rows.device)


def _padded(packed: torch.Tensor, k: int, rows: int, width: int) -> torch.Tensor:
    """[rows, width] with code 0 where there is no weight."""
    behind = k % nibbles.WORD
    out = fragments.padded(packed, rows, width, _EIGHTS, copy=behind > 0)
    if behind:
        mask = (1 << 4 * behind) - 1
        out[: len(packed), k // nibbles.WORD] &= mask
        out[: len(packed), k // nibbles.WORD] |= _EIGHTS & ~mask
    return out


def _swap(a: torch.Tensor, b: torch.Tensor, shift: int, mask: int) -> None:
    """Exchanges, in place, what `a` has `shift` bits above the mask with what `b` has under it. Undoes itself."""
    differ = (a >> shift).bitwise_xor_(b).bitwise_and_(mask)
    b.bitwise_xor_(differ)
    a.bitwise_xor_(differ.bitwise_left_shift_(shift))


def _put_8(words: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
    """Fills [slabs, blocks, 8, 4, 4] with bytes of even columns and of odd ones, in turn, each of two rows."""
    slabs, blocks = words.shape[:2]
    joined = low.view(torch.uint8).to(torch.int16)
    joined.add_(high.view(torch.uint8).to(torch.int16), alpha=256)
    rows = joined.view(torch.int32).bitwise_xor_(_EIGHTS).view(blocks, 1, 8, slabs, WORDS, 4)
    fragments.put(words, fragments.gathered(rows).squeeze(-1))


def _taken_8(words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes of even columns and of odd ones, int32 [blocks, 8, slabs * 8] each, that `_put_8` was given."""
    slabs, blocks = words.shape[:2]
    rows = words.new_empty(blocks, 1, 8, slabs, WORDS, 4)
    fragments.scattered(fragments.taken(words).unsqueeze(-1), rows)
    joined = rows.bitwise_xor_(_EIGHTS).view(blocks, 8, slabs * 16).view(torch.int16)
    low, high = joined.to(torch.uint8), (joined >> 8).to(torch.uint8)
    return low.view(torch.int32), high.view(torch.int32)


def _put_16(words: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
    """Fills [slabs, blocks, 8, 4, 4] with bytes of even columns and of odd ones, each of two rows.

    Words of 8 columns come in pairs, with a byte for each t; a word that goes out has the two bytes of even columns of
    one t, then the two of odd ones. So four words, of which each has a byte for every t, are turned.
    """
    slabs, blocks = words.shape[:2]
    (first, second), (third, fourth) = _apart(low), _apart(high)
    _turn(first, second, third, fourth)
    lanes = [lane.view(blocks, 8, slabs, WORDS).view(fragments.QUAD) for lane in (first, second, third, fourth)]
    fragments.put(words, torch.stack(lanes, 3).view(torch.int32))


def _taken_16(words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes of even columns and of odd ones, int32 [blocks, 8, slabs * 8] each, that `_put_16` was given."""
    lanes = fragments.taken(words).view(fragments.QUAD).unbind(3)
    first, second, third, fourth = (lane.contiguous().view(torch.int32).flatten(2) for lane in lanes)
    _turn(first, second, third, fourth)
    return _together(first, second), _together(third, fourth)


def _turn(first: torch.Tensor, second: torch.Tensor, third: torch.Tensor, fourth: torch.Tensor) -> None:
    """Transposes, in place, four words of four bytes each. Undoes itself."""
    _swap(first, second, 8, 0x00FF00FF)
    _swap(third, fourth, 8, 0x00FF00FF)
    _swap(first, third, 16, 0xFFFF)
    _swap(second, fourth, 16, 0xFFFF)


def _apart(words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Words [..., 2J] as the even and the odd ones, [..., J] each, contiguous."""
    return words[..., 0::2].contiguous(), words[..., 1::2].contiguous()


def _together(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """What `_apart` was given."""
    words = even.new_empty(*even.shape[:-1], 2 * even.shape[-1])
    words[..., 0::2], words[..., 1::2] = even, odd
    return words
