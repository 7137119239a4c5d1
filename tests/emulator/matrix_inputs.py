"""What the probes of 16-bit and of sparse matrix instructions are called with: always the same.

16-bit products are such that any accumulator holds their sums exactly, but for the last one: a sum of 1 and one product
of three quarters of its last bit, which shows that sums are cut off and not rounded.
"""

from __future__ import annotations

import torch

from tests.emulator.probe_inputs import LANES, PRODUCTS, codes, generator, words

#: Products of wgmma: each of five widths twice, every third of them begins anew.
WIDE_PRODUCTS = 10
_LEGAL = (0x4, 0x8, 0x9, 0xC, 0xD, 0xE)
_HALVES = (torch.float16, torch.bfloat16)
#: Of two factors: 1.5 * 2^-24 beside a 1.
_SMALL = (1.5 * 2.0**-12, 2.0**-12)


def metadata(*shape: int, seed: int) -> torch.Tensor:
    """Words of eight nibbles that each name two of four in order."""
    chosen = torch.randint(0, len(_LEGAL), (*shape, 8), generator=generator(seed))
    placed = torch.tensor(_LEGAL)[chosen] << 4 * torch.arange(8)
    return placed.sum(-1).to(torch.int32)


def _integers(products: int, *shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """-8 to 8, of another power of two in each product, in the fourth so small that fp16 has subnormal numbers."""
    values = torch.randint(-8, 9, (products, *shape), generator=generator(seed)).float()
    scales = torch.tensor([1.0, 2.0**-6, 2.0**5, 2.0**-23])[torch.arange(products) % 4]
    return (values * scales.reshape(-1, *[1] * len(shape))).to(dtype)


def _sums(products: int, *shape: int, seed: int) -> torch.Tensor:
    """As `_integers` of both factors."""
    values = torch.randint(-50, 50, (products, *shape), generator=generator(seed)).float()
    scales = torch.tensor([1.0, 2.0**-12, 2.0**10, 2.0**-46])[torch.arange(products) % 4]
    return values * scales.reshape(-1, *[1] * len(shape))


def _fragments(count: int, registers: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """[products, lanes, registers] words."""
    values = _integers(count, LANES, registers, 2, dtype=dtype, seed=seed)
    return values.view(torch.int32).squeeze(-1)


def _one_small_product(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> None:
    """In fragments of the last product: of each row the first value only."""
    left, right = (torch.tensor([x, 0.0], dtype=dtype).view(torch.int32) for x in _SMALL)
    a[-1] = 0
    a[-1, ::4, :2] = left
    b[-1] = right | right << 16


def mma_16() -> tuple[torch.Tensor, ...]:
    """Fragments of both types, and sums."""
    operands = []
    for i, dtype in enumerate(_HALVES):
        a, b = _fragments(PRODUCTS, 4, dtype, 40 + i), _fragments(PRODUCTS, 2, dtype, 42 + i)
        _one_small_product(a, b, dtype)
        operands += [a, b]
    c = _sums(PRODUCTS, LANES, 4, seed=44)
    c[-1] = 1
    return *operands, c


def mma_sp_s8() -> tuple[torch.Tensor, ...]:
    """At random, once with the largest sums, and once with an accumulator that wraps."""
    a, b = words(PRODUCTS, LANES, 4, seed=45), words(PRODUCTS, LANES, 4, seed=46)
    c = torch.randint(-(2**20), 2**20, (PRODUCTS, LANES, 4), dtype=torch.int32, generator=generator(47))
    a[0] = b[0] = -0x7F7F7F80  # -128 in every byte
    c[1] = 2**31 - 1
    return a, b, metadata(PRODUCTS, LANES, seed=48), c


def mma_sp_e4m3() -> tuple[torch.Tensor, ...]:
    """0-3: sums that any accumulator holds exactly; the others: all values."""
    shape = (PRODUCTS, LANES)
    a, b = codes(*shape, 4, seed=49, largest=0x7E), codes(*shape, 4, seed=50, largest=0x7E)
    c = torch.randn(*shape, 4, generator=generator(51)) * 1000
    a[:4], b[:4] = (
        small_codes(4, LANES, 16, seed=52).view(torch.int32),
        small_codes(4, LANES, 16, seed=53).view(torch.int32),
    )
    c[:4] = torch.randint(-50, 50, (4, LANES, 4), generator=generator(54)).float()
    return a, b, metadata(PRODUCTS, LANES, seed=55), c


def small_codes(*shape: int, seed: int) -> torch.Tensor:
    """e4m3 codes of 0, 1, 2, 3, -1 and -2."""
    small = torch.tensor([0x00, 0x38, 0x40, 0x44, 0xB8, 0xC0], dtype=torch.uint8)
    return small[torch.randint(0, 6, shape, generator=generator(seed))]


def mma_sp_16() -> tuple[torch.Tensor, ...]:
    """Fragments of both types, metadata of both selectors in each word, and sums."""
    operands = []
    for i, dtype in enumerate(_HALVES):
        a, b = _fragments(PRODUCTS, 4, dtype, 56 + i), _fragments(PRODUCTS, 4, dtype, 58 + i)
        _one_small_product(a, b, dtype)
        operands += [a, b]
    c = _sums(PRODUCTS, LANES, 4, seed=60)
    c[-1] = 1
    return *operands, metadata(PRODUCTS, LANES, seed=61), c


# ---- wgmma ----


def _wide_s8(a_shape: tuple[int, ...], b_bytes: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Bytes of a and b, and sums: at random, once with the largest, and once with sums that wrap."""
    a = words(*a_shape[:-1], a_shape[-1] // 4, seed=seed).view(torch.int8)
    b = words(WIDE_PRODUCTS * 256, b_bytes // 4, seed=seed + 1).view(torch.int8)
    before = torch.randint(-(2**20), 2**20, (WIDE_PRODUCTS, 128, 128), dtype=torch.int32, generator=generator(seed + 2))
    a[: len(a) // WIDE_PRODUCTS] = b[:256] = -128
    before[1] = 2**31 - 1
    return a, b, before


def _wide_e4m3(a_shape: tuple[int, ...], b_bytes: int, seed: int) -> tuple[torch.Tensor, ...]:
    """0-1: sums that any accumulator holds exactly; 6-7: one and many small ones of one size; others: all values."""
    a = codes(*a_shape[:-1], a_shape[-1] // 4, seed=seed, largest=0x7E).view(torch.uint8)
    b = codes(WIDE_PRODUCTS * 256, b_bytes // 4, seed=seed + 1, largest=0x7E).view(torch.uint8)
    before = torch.randn(WIDE_PRODUCTS, 128, 128, generator=generator(seed + 2)) * 1000
    rows = len(a) // WIDE_PRODUCTS
    a[: 2 * rows] = small_codes(2 * rows, *a.shape[1:], seed=seed + 3)
    b[:512] = small_codes(512, b_bytes, seed=seed + 4)
    before[:2] = torch.randint(-50, 50, (2, 128, 128), generator=generator(seed + 5)).float()
    # Products of 2^-13 and 2^-14 beside a 1.
    for i, (left, right) in enumerate(((0x08, 0x04), (0x04, 0x04)), start=6):
        a[rows * i : rows * (i + 1)], b[256 * i : 256 * (i + 1)], before[i] = left, right, 1.0
    return a, b, before


def _wide_16(a_shape: tuple[int, ...], b_values: int, seed: int) -> tuple[torch.Tensor, ...]:
    """a and b of each type, and sums; of the last product the caller makes a."""
    operands = []
    for i, dtype in enumerate(_HALVES):
        a = _integers(WIDE_PRODUCTS, *a_shape, dtype=dtype, seed=seed + i)
        b = _integers(WIDE_PRODUCTS, 256, b_values, dtype=dtype, seed=seed + 2 + i)
        a[-1], b[-1] = 0, _SMALL[1]
        operands += [a, b.reshape(-1, b_values)]
    before = _sums(WIDE_PRODUCTS, 128, 128, seed=seed + 4)
    before[-1] = 1
    return *operands, before


def wgmma_sp_s8() -> tuple[torch.Tensor, ...]:
    """Rows of 64 and of 128 bytes."""
    a, b, before = _wide_s8((WIDE_PRODUCTS * 64, 64), 128, 70)
    return a, b, metadata(WIDE_PRODUCTS, 128, 2, seed=73), before


def wgmma_sp_e4m3() -> tuple[torch.Tensor, ...]:
    """Rows of 64 and of 128 bytes."""
    a, b, before = _wide_e4m3((WIDE_PRODUCTS * 64, 64), 128, 74)
    return a, b, metadata(WIDE_PRODUCTS, 128, 2, seed=80), before


def wgmma_sp_16() -> tuple[torch.Tensor, ...]:
    """Rows of 32 and of 64 values, of both types. All threads bring metadata, also those that are not asked."""
    a_f16, b_f16, a_bf16, b_bf16, before = _wide_16((64, 32), 64, 81)
    for a in (a_f16, a_bf16):
        a[-1, :, 0] = _SMALL[0]
    given = (a_f16.reshape(-1, 32), b_f16, a_bf16.reshape(-1, 32), b_bf16)
    return *given, metadata(WIDE_PRODUCTS, 128, 2, seed=86), before


def wgmma_rs_s8() -> tuple[torch.Tensor, ...]:
    """Registers of two instructions, and rows of 64 bytes."""
    a, b, before = _wide_s8((WIDE_PRODUCTS, 128, 2, 16), 64, 87)
    return a, b, before


def wgmma_rs_e4m3() -> tuple[torch.Tensor, ...]:
    """Registers of two instructions, and rows of 64 bytes."""
    a, b, before = _wide_e4m3((WIDE_PRODUCTS, 128, 2, 16), 64, 90)
    return a, b, before


def wgmma_rs_16() -> tuple[torch.Tensor, ...]:
    """Registers of two instructions, and rows of 32 values, of both types."""
    a_f16, b_f16, a_bf16, b_bf16, before = _wide_16((128, 2, 8), 32, 96)
    for a in (a_f16, a_bf16):
        a[-1, ::4, 0, 0:4:2] = _SMALL[0]  # the first value of each row
    return a_f16, b_f16, a_bf16, b_bf16, before
