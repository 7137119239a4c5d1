"""Small kernels that call every PTX wrapper, and what to call them with; for the emulator and for real GPUs alike.

One source runs on both. What a GPU answered is kept as golden vectors, so the emulator cannot drift from the hardware.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from quant.kernels.runtime.launch import Build, Launch, TensorMap

_LANES = 32


class Box(NamedTuple):
    """A tensor map that a probe needs.

    Attributes:
        tensor: which of the inputs and then the outputs it shows, as rows of bytes.
        rows: of a box of 128 bytes.
        left_out: bytes at the end of each row that are no part of the matrix.
    """

    tensor: int
    rows: int
    left_out: int = 0

    def map(self, tensors: Sequence[torch.Tensor]) -> TensorMap:
        """Of one of these tensors."""
        shown = tensors[self.tensor]
        stride = shown.stride(0) * shown.itemsize
        return TensorMap(shown.data_ptr(), len(shown), stride - self.left_out, stride, self.rows)


class Probe(NamedTuple):
    """A kernel whose only argument is its tensor maps, the addresses of its inputs and then of its outputs.

    Attributes:
        name: of the kernel and its file in `probes/`.
        arch: the oldest architecture it runs on.
        grid: blocks.
        block: threads of each, in x.
        shared_bytes: dynamic shared memory.
        inputs: makes the inputs, always the same, on the CPU; contiguous.
        outputs: shape and dtype of each.
        boxes: its tensor maps.
        cluster: blocks of a cluster.
    """

    name: str
    arch: str
    grid: int
    block: int
    shared_bytes: int
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    outputs: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    boxes: tuple[Box, ...] = ()
    cluster: int = 1

    @property
    def build(self) -> Build:
        """What to compile; its source is in `sources`."""
        return Build(self.name, ())

    def empty_outputs(self, device: str = "cpu") -> tuple[torch.Tensor, ...]:
        """Where the kernel writes; all ones in every bit, so that what it leaves out shows."""
        return tuple(
            torch.full((*shape[:-1], shape[-1] * dtype.itemsize), 255, dtype=torch.uint8, device=device).view(dtype)
            for shape, dtype in self.outputs
        )

    def launch(self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> Launch:
        """The probe on these tensors, which the caller keeps alive."""
        tensors = (*inputs, *outputs)
        maps = tuple((f"map_{i}", box.map(tensors)) for i, box in enumerate(self.boxes))
        addresses = {f"address_{i}": x.data_ptr() for i, x in enumerate(tensors)}
        fields = [*((name, ctypes.c_uint64 * 16) for name, _ in maps), *((name, ctypes.c_void_p) for name in addresses)]
        if maps:  # a TensorMap is aligned to 64 bytes, and what holds one is too
            fields.append(("unused", ctypes.c_uint64 * (-len(addresses) % 8)))
        arguments = type("Arguments", (ctypes.Structure,), {"_fields_": fields})(**addresses)
        return Launch(self.build, self.grid, (self.block, 1), self.shared_bytes, arguments, maps, self.cluster)


def sources() -> Mapping[str, str]:
    """File name to text of every probe, without ptx.cuh and wgmma.cuh."""
    folder = Path(__file__).parent / "probes"
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _words(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, generator=_generator(seed))


def _cp_async() -> tuple[torch.Tensor, ...]:
    source = torch.randint(1, 256, (64, 16), dtype=torch.uint8, generator=_generator(1))
    return source, (torch.arange(64, dtype=torch.int32) * 5 % 17)


_SETS = 8


def _ldmatrix() -> tuple[torch.Tensor, ...]:
    """Words that name their place; rows in order, swizzled, all the same, and at random."""
    image = torch.arange(512, dtype=torch.int32) * 0x01010101 + 0x00010203
    lane = torch.arange(_LANES, dtype=torch.int32)
    swizzled = (lane % 16) * 64 + (lane // 16 ^ lane // 2 % 4) * 16
    random = torch.randint(0, 128, (_SETS - 3, _LANES), dtype=torch.int32, generator=_generator(2)) * 16
    return image, torch.cat([torch.stack([lane * 16, swizzled, 0 * lane + 48]), random])


_PRODUCTS = 16


def _mma_s8() -> tuple[torch.Tensor, ...]:
    """At random, once with the largest sums, and once with an accumulator that wraps."""
    a, b = _words(_PRODUCTS, _LANES, 4, seed=3), _words(_PRODUCTS, _LANES, 2, seed=4)
    c = torch.randint(-(2**20), 2**20, (_PRODUCTS, _LANES, 4), dtype=torch.int32, generator=_generator(5))
    a[0] = b[0] = -0x7F7F7F80  # -128 in every byte
    c[1] = 2**31 - 1
    return a, b, c


def _codes(*shape: int, seed: int, largest: int) -> torch.Tensor:
    """Words of four e4m3 codes up to `largest` in size, of either sign."""
    size = torch.randint(0, largest + 1, (*shape, 4), dtype=torch.int32, generator=_generator(seed))
    sign = torch.randint(0, 2, (*shape, 4), dtype=torch.int32, generator=_generator(seed + 100)) * 128
    return (size + sign).to(torch.uint8).view(torch.int32).squeeze(-1)


def _mma_e4m3() -> tuple[torch.Tensor, ...]:
    """0-3: sums that any accumulator holds exactly; 4-11: all values; 12-15: one and many small ones of one size."""
    shape = (_PRODUCTS, _LANES)
    a, b = _codes(*shape, 4, seed=6, largest=0x7E), _codes(*shape, 2, seed=7, largest=0x7E)
    c = torch.randn(*shape, 4, generator=_generator(8)) * 1000
    small = torch.tensor([0x00, 0x38, 0x40, 0x44, 0xB8, 0xC0], dtype=torch.uint8)  # 0, 1, 2, 3, -1, -2
    for operand, words, seed in ((a, 4, 9), (b, 2, 10)):
        chosen = torch.randint(0, 6, (4, _LANES, words, 4), generator=_generator(seed))
        operand[:4] = small[chosen].view(torch.int32).squeeze(-1)
    c[:4] = torch.randint(-50, 50, (4, _LANES, 4), generator=_generator(11)).float()
    # Products of 2^-12, 2^-13, 2^-14 and 2^-15 beside a c of 1.
    for i, (left, right) in enumerate(((0x08, 0x08), (0x08, 0x04), (0x04, 0x04), (0x04, 0x02))):
        a[12 + i], b[12 + i], c[12 + i] = left * 0x01010101, right * 0x01010101, 1.0
    return a, b, c


def _floats(count: int, seed: int, *, mantissa_bits: int) -> torch.Tensor:
    """All bit patterns alike, ties between neighbours of a shorter mantissa and what is next to them, and ends."""
    random = _words(count, seed=seed)
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


def _e4m3() -> tuple[torch.Tensor, ...]:
    """Half of them within e4m3's range, which few bit patterns are."""
    values = _floats(8192, 12, mantissa_bits=3)
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    middles = (codes[1:] + codes[:-1]) / 2
    near = [middles, -middles, torch.nextafter(middles, 0 * middles), torch.nextafter(middles, middles * 2), codes]
    within = torch.cat(near)
    values[: len(within)] = within
    spread = torch.randn(4096, generator=_generator(13)) * torch.logspace(-3, 3, 4096)
    values[2048 : 2048 + 4096] = spread
    return (values.reshape(-1, 2),)


def _halves() -> tuple[torch.Tensor, ...]:
    """Ties of bf16 in one half of the pairs, of fp16 in the other; half of the latter within its range."""
    bf16, f16 = _floats(65536, 14, mantissa_bits=7), _floats(65536, 15, mantissa_bits=10)
    exponents = torch.randint(127 - 26, 127 + 17, (16384,), dtype=torch.int32, generator=_generator(16))
    words = f16[:16384].view(torch.int32)
    words &= ~0x7F800000
    words |= exponents << 23
    return (torch.cat([bf16, f16]).reshape(-1, 2),)


_WARPS = 16


def _language() -> tuple[torch.Tensor, ...]:
    """Numbers around halves and beyond integers; NaN and infinity."""
    x = torch.randn(_WARPS, _LANES, generator=_generator(17)) * torch.logspace(-2, 11, _WARPS)[:, None]
    y = torch.randn(_WARPS, _LANES, generator=_generator(18))
    x[0] = torch.arange(_LANES) / 2 - 8
    x[1, :6] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1.0])
    y[1, :3] = 1.0
    x[2, :4] = torch.tensor([2147483648.0, -2147483648.0, 2147483520.0, -3e9])
    return x, y


def _stmatrix() -> tuple[torch.Tensor, ...]:
    """Rows in order, swizzled, and at random."""
    lane = torch.arange(_LANES, dtype=torch.int32)
    swizzled = (lane % 16) * 64 + (lane // 16 ^ lane // 2 % 4) * 16
    random = [torch.randperm(128, generator=_generator(19 + i))[:_LANES].int() * 16 for i in range(_SETS - 2)]
    return _words(_SETS, _LANES, 4, seed=25), torch.stack([lane * 16, swizzled, *random])


#: Column and row of a box in a matrix of 40 rows and 256 bytes, of which 200 count: within it, over each of its edges
#: and corners, and outside.
_PLACES = ((0, 0), (64, 8), (72, 32), (16, 35), (96, 16), (150, 39), (-16, 4), (-5, -3), (-128, 0), (0, 40), (200, 3))


def _tma() -> tuple[torch.Tensor, ...]:
    """Every place of a box is loaded from; stored to are some where no two boxes meet."""
    matrix = torch.randint(1, 256, (40, 256), dtype=torch.uint8, generator=_generator(26))
    targets = [(x, 8 * i - 3) for i, x in enumerate((0, 80, -7, 128, 250, 5, 72, -128, 1, 33, 0))]
    return matrix, torch.tensor([[*place, *target] for place, target in zip(_PLACES, targets, strict=True)]).int()


def _mbarrier() -> tuple[torch.Tensor, ...]:
    return (torch.arange(256, dtype=torch.int32) * 3,)


_CLUSTERS = 3


def _cluster() -> tuple[torch.Tensor, ...]:
    return (torch.randint(0, 256, (_CLUSTERS * 32, 128), dtype=torch.uint8, generator=_generator(27)),)


_WGMMAS = 8


def _wgmma_s8() -> tuple[torch.Tensor, ...]:
    """At random, once with the largest sums, and once with sums that wrap."""
    a, b = (_words(_WGMMAS * rows, 32, seed=seed).view(torch.int8) for rows, seed in ((64, 28), (256, 29)))
    before = torch.randint(-(2**20), 2**20, (_WGMMAS, 128, 128), dtype=torch.int32, generator=_generator(30))
    a[:64] = b[:256] = -128
    before[1] = 2**31 - 1
    return a, b, before


def _wgmma_e4m3() -> tuple[torch.Tensor, ...]:
    """0-1: sums that any accumulator holds exactly; 2-5: all values; 6-7: one and many small ones of one size."""
    a, b = _codes(_WGMMAS * 64, 32, seed=31, largest=0x7E), _codes(_WGMMAS * 256, 32, seed=32, largest=0x7E)
    a, b = a.view(torch.uint8), b.view(torch.uint8)
    before = torch.randn(_WGMMAS, 128, 128, generator=_generator(33)) * 1000
    small = torch.tensor([0x00, 0x38, 0x40, 0x44, 0xB8, 0xC0], dtype=torch.uint8)  # 0, 1, 2, 3, -1, -2
    for operand, rows, seed in ((a, 64, 34), (b, 256, 35)):
        operand[: 2 * rows] = small[torch.randint(0, 6, (2 * rows, 128), generator=_generator(seed))]
    before[:2] = torch.randint(-50, 50, (2, 128, 128), generator=_generator(36)).float()
    # Products of 2^-13 and 2^-14 beside a 1.
    for i, (left, right) in enumerate(((0x08, 0x04), (0x04, 0x04))):
        a[64 * (6 + i) : 64 * (7 + i)], b[256 * (6 + i) : 256 * (7 + i)], before[6 + i] = left, right, 1.0
    return a, b, before


_WGMMA_SHARED = 5 * 64 * 128 + 8
_WGMMA_BOXES = (Box(0, 64), Box(1, 64))
_WGMMA_SUMS = (_WGMMAS, 5, 128, 128)

#: Every probe; the outputs of each are those of its last sentence in the kernel's file.
PROBES = (
    Probe("probe_cp_async", "sm_80", 1, 32, 1024, _cp_async, (((64, 16), torch.uint8),)),
    Probe("probe_ldmatrix", "sm_80", _SETS, 32, 2048, _ldmatrix, (((_SETS, _LANES, 4), torch.int32),)),
    Probe("probe_mma_s8", "sm_80", _PRODUCTS, 32, 0, _mma_s8, (((_PRODUCTS, _LANES, 4), torch.int32),)),
    Probe("probe_mma_e4m3", "sm_89", _PRODUCTS, 32, 0, _mma_e4m3, (((_PRODUCTS, _LANES, 4), torch.float32),)),
    Probe("probe_e4m3", "sm_89", 32, 128, 0, _e4m3, (((4096,), torch.int16),)),
    Probe(
        "probe_halves",
        "sm_80",
        512,
        128,
        0,
        _halves,
        (((65536,), torch.int32), ((65536,), torch.int32), ((65536,), torch.float32)),
    ),
    Probe(
        "probe_language",
        "sm_80",
        _WARPS,
        32,
        0,
        _language,
        (
            ((_WARPS, _LANES, 10), torch.float32),
            ((_WARPS, _LANES, 10), torch.float32),
            ((_WARPS, _LANES, 8), torch.int32),
        ),
    ),
    Probe("probe_stmatrix", "sm_90a", _SETS, 32, 2048, _stmatrix, (((_SETS, 512), torch.int32),)),
    Probe(
        "probe_tma",
        "sm_90a",
        len(_PLACES),
        32,
        1024 + 8,
        _tma,
        (((len(_PLACES), 1024), torch.uint8), ((80, 256), torch.uint8)),
        boxes=(Box(0, 8, left_out=56), Box(3, 8, left_out=56)),
    ),
    Probe("probe_mbarrier", "sm_90a", 1, 256, 1024 + 32, _mbarrier, (((4, 256), torch.int32),)),
    Probe(
        "probe_cluster",
        "sm_90a",
        2 * _CLUSTERS,
        32,
        2048 + 16,
        _cluster,
        (((2 * _CLUSTERS, 2, 2048), torch.uint8), ((2 * _CLUSTERS,), torch.int32)),
        boxes=(Box(0, 8),),
        cluster=2,
    ),
    Probe(
        "probe_wgmma_s8",
        "sm_90a",
        _WGMMAS,
        128,
        _WGMMA_SHARED,
        _wgmma_s8,
        ((_WGMMA_SUMS, torch.int32),),
        boxes=_WGMMA_BOXES,
    ),
    Probe(
        "probe_wgmma_e4m3",
        "sm_90a",
        _WGMMAS,
        128,
        _WGMMA_SHARED,
        _wgmma_e4m3,
        ((_WGMMA_SUMS, torch.float32),),
        boxes=_WGMMA_BOXES,
    ),
)
