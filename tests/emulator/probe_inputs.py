"""What probes are called with: always the same, and with the values at which mistakes show."""

from __future__ import annotations

import torch

LANES = 32


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, generator=generator(seed))


def cp_async() -> tuple[torch.Tensor, ...]:
    source = torch.randint(1, 256, (64, 16), dtype=torch.uint8, generator=generator(1))
    return source, (torch.arange(64, dtype=torch.int32) * 5 % 17)


SETS = 8


def ldmatrix() -> tuple[torch.Tensor, ...]:
    """Words that name their place; rows in order, swizzled, all the same, and at random."""
    image = torch.arange(512, dtype=torch.int32) * 0x01010101 + 0x00010203
    lane = torch.arange(LANES, dtype=torch.int32)
    swizzled = (lane % 16) * 64 + (lane // 16 ^ lane // 2 % 4) * 16
    random = torch.randint(0, 128, (SETS - 3, LANES), dtype=torch.int32, generator=generator(2)) * 16
    return image, torch.cat([torch.stack([lane * 16, swizzled, 0 * lane + 48]), random])


PRODUCTS = 16


def mma_s8() -> tuple[torch.Tensor, ...]:
    """At random, once with the largest sums, and once with an accumulator that wraps."""
    a, b = words(PRODUCTS, LANES, 4, seed=3), words(PRODUCTS, LANES, 2, seed=4)
    c = torch.randint(-(2**20), 2**20, (PRODUCTS, LANES, 4), dtype=torch.int32, generator=generator(5))
    a[0] = b[0] = -0x7F7F7F80  # -128 in every byte
    c[1] = 2**31 - 1
    return a, b, c


def codes(*shape: int, seed: int, largest: int) -> torch.Tensor:
    """Words of four e4m3 codes up to `largest` in size, of either sign."""
    size = torch.randint(0, largest + 1, (*shape, 4), dtype=torch.int32, generator=generator(seed))
    sign = torch.randint(0, 2, (*shape, 4), dtype=torch.int32, generator=generator(seed + 100)) * 128
    return (size + sign).to(torch.uint8).view(torch.int32).squeeze(-1)


def mma_e4m3() -> tuple[torch.Tensor, ...]:
    """0-3: sums that any accumulator holds exactly; 4-11: all values; 12-15: one and many small ones of one size."""
    shape = (PRODUCTS, LANES)
    a, b = codes(*shape, 4, seed=6, largest=0x7E), codes(*shape, 2, seed=7, largest=0x7E)
    c = torch.randn(*shape, 4, generator=generator(8)) * 1000
    small = torch.tensor([0x00, 0x38, 0x40, 0x44, 0xB8, 0xC0], dtype=torch.uint8)  # 0, 1, 2, 3, -1, -2
    for operand, words, seed in ((a, 4, 9), (b, 2, 10)):
        chosen = torch.randint(0, 6, (4, LANES, words, 4), generator=generator(seed))
        operand[:4] = small[chosen].view(torch.int32).squeeze(-1)
    c[:4] = torch.randint(-50, 50, (4, LANES, 4), generator=generator(11)).float()
    # Products of 2^-12, 2^-13, 2^-14 and 2^-15 beside a c of 1.
    for i, (left, right) in enumerate(((0x08, 0x08), (0x08, 0x04), (0x04, 0x04), (0x04, 0x02))):
        a[12 + i], b[12 + i], c[12 + i] = left * 0x01010101, right * 0x01010101, 1.0
    return a, b, c


def floats(count: int, seed: int, *, mantissa_bits: int) -> torch.Tensor:
    """All bit patterns alike, ties between neighbours of a shorter mantissa and what is next to them, and ends."""
    random = words(count, seed=seed)
    kept = random[: count // 2]
    half = 1 << (22 - mantissa_bits)
    kept &= -half
    kept |= half  # a tie, of any exponent
    kept[1::4] += 1
    kept[3::4] -= 1
    values = random.view(torch.float32)
    ends = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 448.0, 464.0, 465.0, -449.0, 480.0, 65504.0, 65519.0, 65520.0]
    tiny = [2.0**-9, 2.0**-10, 3 * 2.0**-10, 2.0**-11, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-26, 2.0**-149, 1e38]
    values[-len(ends + tiny) :] = torch.tensor(ends + tiny)
    return values


def e4m3() -> tuple[torch.Tensor, ...]:
    """Half of them within e4m3's range, which few bit patterns are."""
    values = floats(8192, 12, mantissa_bits=3)
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    middles = (codes[1:] + codes[:-1]) / 2
    near = [middles, -middles, torch.nextafter(middles, 0 * middles), torch.nextafter(middles, middles * 2), codes]
    within = torch.cat(near)
    values[: len(within)] = within
    spread = torch.randn(4096, generator=generator(13)) * torch.logspace(-3, 3, 4096)
    values[2048 : 2048 + 4096] = spread
    return (values.reshape(-1, 2),)


def halves() -> tuple[torch.Tensor, ...]:
    """Ties of bf16 in one half of the pairs, of fp16 in the other; half of the latter within its range."""
    bf16, f16 = floats(65536, 14, mantissa_bits=7), floats(65536, 15, mantissa_bits=10)
    exponents = torch.randint(127 - 26, 127 + 17, (16384,), dtype=torch.int32, generator=generator(16))
    words = f16[:16384].view(torch.int32)
    words &= ~0x7F800000
    words |= exponents << 23
    return (torch.cat([bf16, f16]).reshape(-1, 2),)


WARPS = 16


def language() -> tuple[torch.Tensor, ...]:
    """Numbers around halves and beyond integers; NaN and infinity."""
    x = torch.randn(WARPS, LANES, generator=generator(17)) * torch.logspace(-2, 11, WARPS)[:, None]
    y = torch.randn(WARPS, LANES, generator=generator(18))
    x[0] = torch.arange(LANES) / 2 - 8
    x[1, :6] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1.0])
    y[1, :3] = 1.0
    x[2, :4] = torch.tensor([2147483648.0, -2147483648.0, 2147483520.0, -3e9])
    return x, y


def stmatrix() -> tuple[torch.Tensor, ...]:
    """Rows in order, swizzled, and at random."""
    lane = torch.arange(LANES, dtype=torch.int32)
    swizzled = (lane % 16) * 64 + (lane // 16 ^ lane // 2 % 4) * 16
    random = [torch.randperm(128, generator=generator(19 + i))[:LANES].int() * 16 for i in range(SETS - 2)]
    return words(SETS, LANES, 4, seed=25), torch.stack([lane * 16, swizzled, *random])


#: Column and row of a box in a matrix of 40 rows and 256 bytes, of which 200 count: within it, over each of its edges
#: and corners, and outside.
PLACES = ((0, 0), (64, 8), (72, 32), (16, 35), (96, 16), (150, 39), (-16, 4), (-5, -3), (-128, 0), (0, 40), (200, 3))


def tma() -> tuple[torch.Tensor, ...]:
    """Every place of a box is loaded from; stored to are some where no two boxes meet."""
    matrix = torch.randint(1, 256, (40, 256), dtype=torch.uint8, generator=generator(26))
    targets = [(x, 8 * i - 3) for i, x in enumerate((0, 80, -7, 128, 250, 5, 72, -128, 1, 33, 0))]
    return matrix, torch.tensor([[*place, *target] for place, target in zip(PLACES, targets, strict=True)]).int()


def mbarrier() -> tuple[torch.Tensor, ...]:
    return (torch.arange(256, dtype=torch.int32) * 3,)


CLUSTERS = 3


def cluster() -> tuple[torch.Tensor, ...]:
    return (torch.randint(0, 256, (CLUSTERS * 32, 128), dtype=torch.uint8, generator=generator(27)),)


WGMMAS = 8


def wgmma_s8() -> tuple[torch.Tensor, ...]:
    """At random, once with the largest sums, and once with sums that wrap."""
    a, b = (words(WGMMAS * rows, 32, seed=seed).view(torch.int8) for rows, seed in ((64, 28), (256, 29)))
    before = torch.randint(-(2**20), 2**20, (WGMMAS, 128, 128), dtype=torch.int32, generator=generator(30))
    a[:64] = b[:256] = -128
    before[1] = 2**31 - 1
    return a, b, before


def wgmma_e4m3() -> tuple[torch.Tensor, ...]:
    """0-1: sums that any accumulator holds exactly; 2-5: all values; 6-7: one and many small ones of one size."""
    a, b = codes(WGMMAS * 64, 32, seed=31, largest=0x7E), codes(WGMMAS * 256, 32, seed=32, largest=0x7E)
    a, b = a.view(torch.uint8), b.view(torch.uint8)
    before = torch.randn(WGMMAS, 128, 128, generator=generator(33)) * 1000
    small = torch.tensor([0x00, 0x38, 0x40, 0x44, 0xB8, 0xC0], dtype=torch.uint8)  # 0, 1, 2, 3, -1, -2
    for operand, rows, seed in ((a, 64, 34), (b, 256, 35)):
        operand[: 2 * rows] = small[torch.randint(0, 6, (2 * rows, 128), generator=generator(seed))]
    before[:2] = torch.randint(-50, 50, (2, 128, 128), generator=generator(36)).float()
    # Products of 2^-13 and 2^-14 beside a 1.
    for i, (left, right) in enumerate(((0x08, 0x04), (0x04, 0x04))):
        a[64 * (6 + i) : 64 * (7 + i)], b[256 * (6 + i) : 256 * (7 + i)], before[6 + i] = left, right, 1.0
    return a, b, before


FMAS = 16384


def fma() -> tuple[torch.Tensor, ...]:
    """Three words each of pairs of 16-bit floats: all bit patterns alike, numbers of like size, ends, and products that
    are a tie beside something far too small for a float, and for a double, to notice."""
    patterns = words(3, FMAS, seed=101).view(torch.int16)
    floats = torch.randn(3, 8192, generator=generator(102)) * 2.0 ** torch.randint(
        -6, 7, (3, 8192), generator=generator(103)
    )
    patterns[:, :4096] = floats[:, :4096].half().view(torch.int16)
    patterns[:, 4096:8192] = floats[:, 4096:].bfloat16().view(torch.int16)
    ends = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1.0, -1.0, 2.0**-14, -(2.0**-24), 65504.0, 3.0 * 2.0**-25]
    triples = torch.cartesian_prod(*[torch.tensor(ends)] * 3).T
    at = 8192
    for dtype, step, tiny in (
        (torch.float16, 2.0**-10, (2.0**-24, 2.0**-23)),
        (torch.bfloat16, 2.0**-7, (2.0**-40, 2.0**-100, 2.0**-133)),
    ):
        patterns[:, at : at + triples.shape[1]] = triples.to(dtype).view(torch.int16)
        at += triples.shape[1]
        factor = torch.arange(1, 41, 2) * step + 1  # times 1.5 it has one bit too many, a tie
        sizes = torch.tensor([sign * size for size in tiny for sign in (1, -1)])
        ties = torch.cartesian_prod(torch.tensor([1.5, -1.5, 384.0]), factor, sizes).T
        patterns[:, at : at + ties.shape[1]] = ties.to(dtype).view(torch.int16)
        at += ties.shape[1]
    a, b, c = patterns.view(torch.int32)
    return a.clone(), b.clone(), c.clone()


def selections() -> tuple[torch.Tensor, ...]:
    """Words, and selectors of any bits."""
    return words(4096, seed=104), words(4096, seed=105), words(4096, seed=106)
