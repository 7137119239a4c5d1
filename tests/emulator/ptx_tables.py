"""What the PTX manual's figures say of matrix instructions, in NumPy: which element each register of each lane holds,
which values metadata keeps, where swizzles put bytes. Nothing here comes from the emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_LANES = 32


# ---- mma: with g = lane / 4, t = lane % 4, byte b of register r ----


def a_matrices(registers: torch.Tensor) -> Array:
    """[products, 16, 32] bytes of [products, 32 lanes, 4 registers]: m16n8k32 of 8 bits, or what a sparse one keeps."""
    codes = registers.numpy().view(np.uint8).reshape(len(registers), _LANES, 4, 4)
    matrices = np.zeros((len(registers), 16, 32), np.uint8)
    for lane, r, b in np.ndindex(_LANES, 4, 4):
        g, t = divmod(lane, 4)
        matrices[:, g + (8 if r in (1, 3) else 0), t * 4 + b + (16 if r >= 2 else 0)] = codes[:, lane, r, b]
    return matrices


def b_matrices(registers: torch.Tensor) -> Array:
    """[products, 32 or 64, 8] bytes of [products, 32 lanes, 2 or 4 registers]."""
    count = registers.shape[-1]
    codes = registers.numpy().view(np.uint8).reshape(len(registers), _LANES, count, 4)
    matrices = np.zeros((len(registers), 16 * count, 8), np.uint8)
    for lane, r, b in np.ndindex(_LANES, count, 4):
        g, t = divmod(lane, 4)
        matrices[:, t * 4 + b + 16 * r, g] = codes[:, lane, r, b]
    return matrices


def c_matrices(registers: torch.Tensor) -> Array:
    """[products, 16, 8] of [products, 32 lanes, 4 registers]."""
    values = registers.numpy()
    matrices = np.zeros((len(registers), 16, 8), values.dtype)
    for lane, r in np.ndindex(_LANES, 4):
        g, t = divmod(lane, 4)
        matrices[:, g + (8 if r >= 2 else 0), 2 * t + r % 2] = values[:, lane, r]
    return matrices


def halves(registers: torch.Tensor, dtype: torch.dtype) -> Floats:
    """[products, lanes, registers * 2] values of 16 bits, the lower half of a register first: a0, a1, a2, ..."""
    return registers.view(dtype).double().numpy()


def a_of_halves(values: Floats) -> Floats:
    """[products, 16, 16] of a0 to a7: m16n8k16, or what an m16n8k32 that is sparse keeps."""
    matrices = np.zeros((len(values), 16, 16))
    for lane, i in np.ndindex(_LANES, 8):
        g, t = divmod(lane, 4)
        row = g if 0 <= i < 2 or 4 <= i < 6 else g + 8
        column = t * 2 + (i & 1) if i < 4 else t * 2 + (i & 1) + 8
        matrices[:, row, column] = values[:, lane, i]
    return matrices


def b_of_halves(values: Floats) -> Floats:
    """[products, 16 or 32, 8] of b0 to b3 or b7."""
    count = values.shape[-1]
    matrices = np.zeros((len(values), 4 * count, 8))
    for lane, i in np.ndindex(_LANES, count):
        g, t = divmod(lane, 4)
        matrices[:, t * 2 + (i & 1) + 8 * (i // 2), g] = values[:, lane, i]
    return matrices


# ---- Sparse ones: a nibble of metadata for every four values along K ----


def _nibbles(words: torch.Tensor) -> Array:
    """[..., 8] of words."""
    unsigned = words.numpy().view(np.uint32)[..., None]
    parts: Array = unsigned >> (4 * np.arange(8, dtype=np.uint32)) & 15
    return parts


def metadata_of_8_bits(words: torch.Tensor) -> Array:
    """[products, 16, 16] nibbles of [products, 32 lanes] words: m16n8k64, where every lane tells of 32 values."""
    found = np.zeros((len(words), 16, 16), np.uint32)
    for lane in range(_LANES):
        row = lane // 4 + (8 if lane % 4 in (1, 3) else 0)
        first = 8 if lane % 4 >= 2 else 0
        found[:, row, first : first + 8] = _nibbles(words)[:, lane]
    return found


def metadata_of_16_bits(words: torch.Tensor, selector: int) -> Array:
    """[products, 16, 8] nibbles: m16n8k32, where the lanes 0 and 1 of every four tell, or 2 and 3."""
    found = np.zeros((len(words), 16, 8), np.uint32)
    for lane in range(_LANES):
        if lane % 4 // 2 != selector:
            continue
        first = 4 if lane % 2 else 0
        found[:, lane // 4, first : first + 4] = _nibbles(words)[:, lane, :4]
        found[:, lane // 4 + 8, first : first + 4] = _nibbles(words)[:, lane, 4:]
    return found


def expanded(kept: Array, nibbles: Array) -> Array:
    """[..., rows, K] with zeros of kept values [..., rows, K / 2] and nibbles [..., rows, K / 4]."""
    four = np.zeros((*nibbles.shape, 4), kept.dtype)
    two = kept.reshape(*nibbles.shape, 2)
    for i in range(4):
        four[..., i] += np.where(nibbles & 3 == i, two[..., 0], 0).astype(kept.dtype)
        four[..., i] += np.where(nibbles >> 2 == i, two[..., 1], 0).astype(kept.dtype)
    return four.reshape(*kept.shape[:-1], -1)


# ---- wgmma ----


def wide_sums(registers: Array, columns: int) -> Array:
    """[64, columns] of [128 threads, columns / 2 or more]."""
    sums = np.zeros((64, columns), registers.dtype)
    for thread, i in np.ndindex(128, columns // 2):
        warp, lane = divmod(thread, 32)
        sums[16 * warp + lane // 4 + (8 if i % 4 >= 2 else 0), 8 * (i // 4) + 2 * (lane % 4) + i % 2] = registers[
            thread, i
        ]
    return sums


# ---- How sums are rounded, as far as anybody knows ----


def truncated_sum(before: Floats, a: Floats, b: Floats) -> Floats:
    """e4m3: before [rows, columns] and the products of a [rows, K] and b [columns, K], aligned to the largest of them,
    of which each keeps 13 bits behind the first; see runtime/dot.h. Products with zeros change nothing."""
    products = a[:, None, :] * b[None, :, :]
    addends = np.concatenate([products, before[:, :, None]], axis=2)
    _, exponent = np.frexp(np.abs(addends).max(axis=2))
    unit = np.exp2(exponent.astype(np.float64) - 1 - 13)[:, :, None]
    exact: Floats = (np.trunc(addends / unit) * unit).sum(axis=2)
    return exact.astype(np.float32).astype(np.float64)


def toward_zero(sums: Floats) -> Floats:
    """16 bits: what a float holds of exact sums, the rest cut off."""
    nearest = sums.astype(np.float32)
    beyond = np.abs(nearest.astype(np.float64)) > np.abs(sums)
    return np.where(beyond, np.nextafter(nearest, np.float32(0)), nearest).astype(np.float64)


def e4m3_floats(codes: Array) -> Floats:
    """Values of e4m3 codes."""
    return torch.from_numpy(codes.copy()).view(torch.float8_e4m3fn).double().numpy()


# ---- Shared memory ----


def swizzled(image: Array) -> Array:
    """[rows, 128] bytes where a row's 16-byte chunk c lies at chunk c ^ (row % 8); its own inverse."""
    rows = np.arange(len(image))[:, None]
    chunks = np.arange(8)[None, :] ^ rows % 8
    moved: Array = image.reshape(len(image), 8, 16)[rows, chunks].reshape(len(image), 128)
    return moved


def swizzled_64(image: Array) -> Array:
    """[rows, 64] bytes where a row's 16-byte chunk c lies at chunk c ^ (row / 2 % 4); its own inverse."""
    rows = np.arange(len(image))[:, None]
    chunks = np.arange(4)[None, :] ^ rows // 2 % 4
    moved: Array = image.reshape(len(image), 4, 16)[rows, chunks].reshape(len(image), 64)
    return moved
