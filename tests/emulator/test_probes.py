"""Every wrapper on the emulator, against NumPy that follows the published layouts and against torch's casts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.emulator.emulator import compile_kernel
from tests.emulator.probe_runs import ran
from tests.emulator.probes import PROBES, Probe, sources
from tests.emulator.ptx_tables import (
    Array,
    a_matrices,
    b_matrices,
    c_matrices,
    e4m3_floats,
    swizzled,
    swizzled_64,
    truncated_sum,
)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_is_the_same_every_time(probe: Probe) -> None:
    inputs, outputs = ran(probe.name)
    again = probe.inputs()
    assert all(x.equal(y) or x.isnan().any() for x, y in zip(inputs, again, strict=True))
    later = probe.empty_outputs()
    program = compile_kernel(probe.build, probe.arch, sources=sources())
    buffers = [*((x, False) for x in again), *((x, True) for x in later)]
    program.run(probe.launch(again, later), buffers, seed=99)
    for x, y in zip(outputs, later, strict=True):
        assert x.view(torch.uint8).equal(y.view(torch.uint8))


def test_cp_async_copies_some_bytes_and_clears_the_others() -> None:
    (source, counts), (left,) = ran("probe_cp_async")
    for row in range(64):
        count = int(counts[row])
        assert left[row].tolist() == source[row, :count].tolist() + [0] * (16 - count)


def test_ldmatrix_gives_a_lane_four_bytes_of_row_l_div_4_of_each_matrix() -> None:
    (image, rows), (fragments,) = ran("probe_ldmatrix")
    memory = image.numpy().tobytes()
    for each, fragment in zip(rows.tolist(), fragments.numpy().view(np.uint32), strict=True):
        for lane in range(32):
            for matrix in range(4):
                start = each[8 * matrix + lane // 4] + 4 * (lane % 4)
                assert int(fragment[lane, matrix]) == int.from_bytes(memory[start : start + 4], "little")


# ---- Matrix instructions of a warp; those of 16 bits and sparse ones are in test_matrix_probes.py ----


def test_mma_s8_is_an_exact_product_that_wraps() -> None:
    (a, b, c), (sums,) = ran("probe_mma_s8")
    left, right = a_matrices(a).view(np.int8).astype(np.int64), b_matrices(b).view(np.int8).astype(np.int64)
    exact = c_matrices(c).astype(np.int64) + left @ right
    assert abs(exact[0]).max() > 128 * 128 * 31
    assert exact[1].max() > 2**31
    assert (c_matrices(sums) == exact.astype(np.int32)).all()


def test_mma_e4m3_keeps_fourteen_bits_of_each_addend() -> None:
    (a, b, c), (sums,) = ran("probe_mma_e4m3")
    left, right = e4m3_floats(a_matrices(a)), e4m3_floats(b_matrices(b))
    start, found = c_matrices(c).astype(np.float64), c_matrices(sums).astype(np.float64)
    exact = start + left @ right
    products = left[:, :, :, None] * right[:, None]
    largest = np.maximum(np.abs(products).max(axis=2), np.abs(start))
    unit = 2.0 ** (np.floor(np.log2(largest)) - 13)
    assert (found[:4] == exact[:4]).all()
    assert (np.abs(found - exact) < 33 * unit)[:12].all()
    assert (found[4:12] != exact[4:12]).mean() > 0.5  # rounding is seen where it should be
    assert (found / unit == np.round(found / unit)).all()
    # Beside a 1, products of 2^-13 still count, products of 2^-14 do not.
    assert [float(found[12 + i, 0, 0]) for i in range(4)] == [1 + 32 * 2**-12, 1 + 32 * 2**-13, 1, 1]


# ---- Hopper ----


def test_stmatrix_is_the_reverse_of_ldmatrix() -> None:
    (fragments, rows), (image,) = ran("probe_stmatrix")
    for given, each, found in zip(fragments.numpy().view(np.uint32), rows.tolist(), image.numpy(), strict=True):
        wanted = np.zeros(512, np.uint32)
        for lane, matrix in np.ndindex(32, 4):
            wanted[each[8 * matrix + lane // 4] // 4 + lane % 4] = given[lane, matrix]
        assert (found.view(np.uint32) == wanted).all()


def test_tma_loads_zeros_and_stores_nothing_outside() -> None:
    (matrix, places), (boxes, stored) = ran("probe_tma")
    around = np.zeros((40 + 256, 200 + 512), np.uint8)  # the matrix at row 128 and column 256
    around[128:168, 256:456] = matrix[:, :200].numpy()
    wanted = np.full((80 + 256, 256 + 512), 255, np.uint8)
    for (x, y, to_x, to_y), box in zip(places.tolist(), boxes.numpy().reshape(-1, 8, 128), strict=True):
        loaded = around[128 + y : 136 + y, 256 + x : 384 + x]
        assert (swizzled(box) == loaded).all(), (x, y)
        wanted[128 + to_y : 136 + to_y, 256 + to_x : 384 + to_x] = loaded + 1
    assert (stored[:, :200].numpy() == wanted[128:208, 256:456]).all()
    assert (stored[:, 200:] == 255).all()


def test_tma_with_other_swizzles() -> None:
    (matrix, places), (narrow, wide, narrow_stored, wide_stored) = ran("probe_swizzles")
    around = np.zeros((40 + 256, 200 + 512 + 256), np.uint8)  # the matrix at row 128 and column 256
    around[128:168, 256:456] = matrix[:, :200].numpy()
    for width, boxes, stored, added in ((64, narrow, narrow_stored, 1), (256, wide, wide_stored, 2)):
        wanted = np.full((80 + 256, 256 + 512 + 256), 255, np.uint8)
        for (x, y, to_x, to_y), box in zip(places.tolist(), boxes.numpy().reshape(-1, 8, width), strict=True):
            loaded = around[128 + y : 136 + y, 256 + x : 256 + width + x]
            assert ((swizzled_64(box) if width == 64 else box) == loaded).all(), (width, x, y)
            wanted[128 + to_y : 136 + to_y, 256 + to_x : 256 + width + to_x] = loaded + added
        assert (stored[:, :200].numpy() == wanted[128:208, 256:456]).all()
        assert (stored[:, 200:] == 255).all()


def test_two_warpgroups_exchange_through_barriers() -> None:
    (given,), (received,) = ran("probe_mbarrier")
    rounds = torch.arange(4, dtype=torch.int32)[:, None]
    assert received[:, :128].equal(given[:128] + rounds)
    assert received[:, 128:].equal(given[:128].flip(0) + 1000 * rounds + given[128:])


def test_a_cluster_shares_what_its_blocks_load() -> None:
    (matrix,), (tiles, ranks) = ran("probe_cluster")
    assert ranks.tolist() == [0, 1] * 3
    for block, tile in enumerate(tiles.numpy().reshape(6, 32, 128)):
        assert (swizzled(tile) == matrix[32 * (block // 2) : 32 * (block // 2 + 1)].numpy()).all()


def wgmma_operands(name: str) -> Iterator[tuple[Array, Array, Array, Array, int]]:
    """For each product and number of columns: the codes of a [64, 2, 32] and b [columns, 2, 32] of both instructions,
    the sums before, zero where it begins anew, and after [64, columns]."""
    (a, b, before), (sums,) = ran(name)
    thread, i = np.indices((128, 128))
    row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (i // 2 % 2)
    column = 8 * (i // 4) + 2 * (thread % 4) + i % 2
    for product in range(len(before)):
        codes = [x.numpy()[rows * product : rows * (product + 1)] for x, rows in ((a, 64), (b, 256))]
        left, right = (np.stack([x[:, :32], x[:, 64:96]], axis=1) for x in codes)
        for which, columns in enumerate((32, 64, 128, 192, 256)):
            held = slice(0, columns // 2)
            start, found = (np.zeros((64, columns), sums.numpy().dtype) for _ in range(2))
            found[row[:, held], column[:, held]] = sums[product, which].numpy()[:, held]
            if product % 4 != 3:
                start[row[:, held], column[:, held]] = before[product].numpy()[:, held]
            yield left, right[:columns], start, found, product


def test_wgmma_s8_is_an_exact_product_that_wraps() -> None:
    for a, b, before, found, _ in wgmma_operands("probe_wgmma_s8"):
        products = np.einsum("msk,nsk->mn", a.astype(np.int64), b.astype(np.int64))
        assert (found == (before + products).astype(np.int32)).all()


def test_wgmma_e4m3_keeps_fourteen_bits_of_each_addend() -> None:
    for a, b, before, found, product in wgmma_operands("probe_wgmma_e4m3"):
        left, right = e4m3_floats(a), e4m3_floats(b)
        middle = truncated_sum(before.astype(np.float64), left[:, 0], right[:, 0])
        assert (found == truncated_sum(middle, left[:, 1], right[:, 1])).all()
        if product < 2:
            assert (found == before + np.einsum("msk,nsk->mn", left, right)).all()
        if product == 6:  # beside a 1, products of 2^-13 still count
            assert (found == 1 + 64 * 2**-13).all()


# ---- Conversions ----


def bits(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.contiguous().view(dtype)


def test_e4m3_is_torchs_cast_that_saturates() -> None:
    (values,), (pairs,) = ran("probe_e4m3")
    found = bits(pairs, torch.uint8).reshape(-1, 2)
    wanted = bits(values.clamp(-448, 448).to(torch.float8_e4m3fn), torch.uint8).clone()
    wanted[values.isnan()] = 0x7F
    assert found.equal(wanted)
    assert set(found.flatten().tolist()) == set(range(256)) - {0xFF}


@pytest.mark.parametrize(("output", "dtype"), [(0, torch.bfloat16), (1, torch.float16)])
def test_16_bit_floats_are_torchs_casts(output: int, dtype: torch.dtype) -> None:
    (values,), outputs = ran("probe_halves")
    found = bits(outputs[output], torch.int16).reshape(-1, 2)
    wanted = bits(values.to(dtype), torch.int16).clone()
    wanted[values.isnan()] = 0x7FFF
    assert found.equal(wanted)


def test_every_half_is_read_as_torch_reads_it() -> None:
    _, (_, _, floats) = ran("probe_halves")
    halves = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.float16)
    assert bits(floats, torch.int32).equal(bits(halves.float(), torch.int32))


# ---- Multiply-add of pairs, against integers: every fp16 is a multiple of 2^-24, every bf16 of 2^-133 ----


def multiply_add(a: float, b: float, c: float, unit: int, digits: int) -> float:
    """Rounded to so many digits and to multiples of 2^-unit, ties to even; before overflow."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    x, y, z = (int(math.ldexp(value, unit)) for value in (a, b, c))
    exact = x * y + (z << unit)  # in 2^(-2 unit)
    if exact == 0:
        return a * b + c  # the sign of a zero
    dropped = max(unit, abs(exact).bit_length() - digits)
    kept, rest = divmod(abs(exact), 1 << dropped)
    half = 1 << (dropped - 1)
    kept += rest > half or (rest == half and kept % 2 == 1)
    return math.copysign(math.ldexp(kept, dropped - 2 * unit), exact)


@pytest.mark.parametrize(
    ("output", "dtype", "unit", "digits"), [(0, torch.float16, 24, 11), (1, torch.bfloat16, 133, 8)]
)
def test_fma_rounds_once(output: int, dtype: torch.dtype, unit: int, digits: int) -> None:
    inputs, outputs = ran("probe_fma")
    a, b, c = (x.view(dtype).double().tolist() for x in inputs)
    exact = [multiply_add(*values, unit, digits) for values in zip(a, b, c, strict=True)]
    wanted = torch.tensor(exact, dtype=torch.float64).to(dtype)  # exact but for overflow
    patterns = bits(wanted, torch.int16).clone()
    patterns[wanted.isnan()] = 0x7FFF
    found = bits(outputs[output], torch.int16)
    assert found.equal(patterns)
    # A float between would round twice.
    twice = (inputs[0].view(dtype).float() * inputs[1].view(dtype).float() + inputs[2].view(dtype).float()).to(dtype)
    assert (bits(twice, torch.int16) != found)[~wanted.isnan()].sum() > 50
    sizes = wanted.abs().double()
    assert ((sizes > 0) & (sizes < 2.0 ** (digits - 1 - unit))).sum() > 50  # subnormal
    assert ((wanted == 0) & wanted.signbit()).sum() > 5
    assert wanted.isinf().sum() > 100


def test_bytes_are_chosen_with_and_without_signs() -> None:
    (a, b, selectors), (with_signs, without) = ran("probe_bytes")
    both = np.concatenate([x.numpy().view(np.uint8).reshape(-1, 4) for x in (a, b)], axis=1)
    nibbles = selectors.numpy().view(np.uint32)[:, None] >> (4 * np.arange(4, dtype=np.uint32)) & 15
    chosen = np.take_along_axis(both, (nibbles & 7).astype(np.int64), axis=1)
    assert (without.numpy().view(np.uint8).reshape(-1, 4) == chosen).all()
    signs = np.where(chosen >= 128, 255, 0)
    assert (with_signs.numpy().view(np.uint8).reshape(-1, 4) == np.where(nibbles >= 8, signs, chosen)).all()


# ---- The language ----


def test_shuffles() -> None:
    (x, _), (shuffled, _, integers) = ran("probe_language")
    lanes = range(32)
    source = [
        [i ^ 1 for i in lanes],
        [i ^ 16 for i in lanes],
        [i ^ 12 if (i ^ 12) < i // 8 * 8 + 8 else i for i in lanes],
        [5 for i in lanes],
        [(i * 7 + 3) % 32 for i in lanes],
        [i // 4 * 4 + 2 for i in lanes],
        [i + 4 if i + 4 < 32 else i for i in lanes],
        [i + 3 if i % 8 + 3 < 8 else i for i in lanes],
        [i - 2 if i >= 2 else i for i in lanes],
        [i - 3 if i % 8 >= 3 else i for i in lanes],
    ]
    given = bits(x, torch.int32)
    for column, sources_of_lanes in enumerate(source):
        assert bits(shuffled[..., column], torch.int32).equal(given[:, sources_of_lanes]), column
    assert integers[..., 1].equal(given[:, [i ^ 3 for i in lanes]])
    assert (integers[..., 7] == 14).all()


def test_arithmetic() -> None:
    (x, y), (_, floats, integers) = ran("probe_language")
    # By way of float64, which is precise enough for the second rounding to be the only one.
    fused = (x.double() * y.double() + x.double()).float()
    root = x.abs().double().sqrt().float()
    wanted = [x + y, x * y, x / y, fused, torch.fmax(x, y), torch.fmin(x, y), x.round(), root, x / y, -x]
    for column, values in enumerate(wanted):
        same = (floats[..., column] == values) | (floats[..., column].isnan() & values.isnan())
        assert same.all(), column
    nearest = [[_nearest_integer(value) for value in row] for row in x.tolist()]
    assert integers[..., 0].tolist() == nearest
    i, j = bits(x, torch.int32), bits(y, torch.int32)
    assert integers[..., 2].equal(torch.minimum(i, j))
    assert integers[0, :, 3].tolist() == [max(lane, 7) for lane in range(32)]
    assert integers[..., 4].tolist() == [
        [_signed(max(u % 2**32, v % 2**32)) for u, v in zip(*rows, strict=True)]
        for rows in zip(i.tolist(), j.tolist(), strict=True)
    ]
    block = torch.arange(16, dtype=torch.int32)[:, None]
    assert integers[..., 5].equal(torch.arange(32, dtype=torch.int32) + 10000 * block)
    assert (integers[..., 6] == 32 + 100 + 160000).all()


def _nearest_integer(value: float) -> int:
    if math.isnan(value):
        return 0
    return round(min(max(value, -(2.0**31)), 2.0**31 - 1))


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word
