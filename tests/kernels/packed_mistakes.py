"""Mistakes in the kernels whose left operand is the weight: in the skeletons they share, made in each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.packed import Packed
from quant.kernels.matmuls.sm90_packed import HopperPackedTile, Sm90Packed
from tests.emulator.emulator import Mutation
from tests.kernels.emulated import multiply_packed
from tests.kernels.hopper_mistakes import ANY_ORDER, STUCK
from tests.kernels.mistakes import Check, Mistake, Sources
from tests.kernels.packed_cases import KINDS, Case, case

MMA, HOPPER, PIPELINE = "mma_swap_ab.cuh", "sm90_swap_ab.cuh", "sm90_pipeline.cuh"
EPILOGUE, SCALES, UNPACK = "swap_epilogue.cuh", "int4_scales.cuh", "int4.cuh"
MMA_SPARSE, HOPPER_SPARSE, HOPPER_INT4 = "mma_sparse.cuh", "sm90_sparse.cuh", "sm90_int4.cuh"
SMALL = PackedTile(64, 64, 2, 32, 32, 1, 2)
WIDE = PackedTile(64, 32, 1, 64, 32, 1, 2)
FEW = PackedTile(32, 16, 4, 32, 16, 4, 2)
HOPPER_SMALL = HopperPackedTile(32, 1, 64, 2, 1)
TWO_GROUPS = HopperPackedTile(32, 2, 64, 2, 1)
CLUSTER = HopperPackedTile(32, 1, 64, 2, 2)

_ONE = torch.ones(1, 1)
#: Name of a check, and how a mistake may show there.
_Expected = tuple[Mutation, str, tuple[str, ...]]
_ORDER = ("race", "async in flight", "uninitialized")


def matmul(one: Case, tile: PackedTile | HopperPackedTile, *, multiprocessors: int = 2) -> Check:
    """A case against the reference, under late and early copies."""

    def check(sources: Sources) -> str | None:
        for seed, copies in enumerate(("late", "early", "random")):
            out, counts = multiply_packed(
                one, tile, multiprocessors=multiprocessors, seed=seed, copies=copies, sources=sources
            )
            if not ((out - one.expected).abs() <= one.allowed).all():
                return "mismatch"
            conflicts = counts.ldmatrix_conflicts + counts.copy_conflicts + counts.shared_load_conflicts
            if conflicts + counts.shared_store_conflicts:
                return "conflicts"
        return None

    return check


def _checks(kind: Packed[Any]) -> dict[str, Check]:
    name, group = kind.name, 0 if kind.sparse else 256
    ending = Epilogue(_ONE, _ONE, bias=torch.arange(72.0), out_dtype=torch.float32)
    ragged = case(name, (37, 72, 320), group=0 if kind.sparse else 64, ending=lambda _: ending)
    long = case(name, (64, 64, 768), group=group)
    if isinstance(kind, Sm90Packed):
        return {
            "ragged": matmul(ragged, HOPPER_SMALL),
            "long": matmul(case(name, (64, 128, 1024), group=group), TWO_GROUPS, multiprocessors=1),
            "cluster": matmul(case(name, (64, 256, 512), group=group), CLUSTER),
        }
    return {
        "ragged": matmul(ragged, SMALL),
        "long": matmul(long, SMALL),
        # The last of 5 steps is multiplied where staging will lie.
        "odd": matmul(case(name, (64, 64, 640), group=0 if kind.sparse else 128), SMALL),
        "wide": matmul(long, WIDE),
        "few": matmul(case(name, (16, 40, 768), group=group, shares_k=True), FEW),
    }


#: Of mma_swap_ab.cuh and what it includes.
_MMA: tuple[_Expected, ...] = (
    (
        Mutation(MMA, "    __syncthreads();\n    copy_step", "    copy_step", "the barrier of a step is missing"),
        "long",
        _ORDER,
    ),
    (
        Mutation(MMA, "cp_async_wait<STAGES - 2>()", "cp_async_wait<STAGES - 1>()", "it waits for one step too few"),
        "long",
        ("async in flight",),
    ),
    (
        Mutation(
            MMA, "  __syncthreads();  // the staging", "  // the staging", "staging overwrites what is multiplied"
        ),
        "odd",
        ("race",),
    ),
    (
        Mutation(
            MMA,
            "min(first + within / (BYTES / 16), blocks - 1)",
            "first + within / (BYTES / 16)",
            "blocks are copied that do not exist",
        ),
        "ragged",
        ("out of bounds",),
    ),
    (
        Mutation(
            MMA,
            "min(step * SLABS + chunk / CHUNKS_SLAB, slabs - 1)",
            "step * SLABS + chunk / CHUNKS_SLAB",
            "slabs are copied that do not exist",
        ),
        "ragged",
        ("out of bounds",),
    ),
    (
        Mutation(EPILOGUE, "STAGED_ROW = CHANNELS + 4", "STAGED_ROW = CHANNELS", "staged tokens begin at one bank"),
        "ragged",
        ("conflicts",),
    ),
    (
        Mutation(EPILOGUE, "CHANNELS == 64 && (chunk & 4) != 0", "false", "two lanes read at one bank"),
        "wide",
        ("conflicts",),
    ),
    (
        Mutation(EPILOGUE, "if (token >= m", "if (token > m", "one token too many is stored"),
        "ragged",
        ("out of bounds", "race"),
    ),
    (
        Mutation(MMA, "      __syncwarp();  // all have read", "      // all have read", "unread sums are overwritten"),
        "long",
        ("race",),
    ),
    (
        Mutation(MMA, "16 * i + g + 8 * half, sums.value(i, j, 2", "16 * i + g, sums.value(i, j, 2", "8 rows twice"),
        "ragged",
        ("mismatch", "race", "uninitialized"),
    ),
    (
        Mutation(
            MMA, "const s32 within = part * OWN_SLABS + own,", "const s32 within = own,", "all warps take one slab"
        ),
        "few",
        ("mismatch",),
    ),
    (
        Mutation(
            EPILOGUE,
            "x[i] = add_staged<INTEGERS>(x[i], more[i]);",
            "x[i] = more[i];",
            "the sums of one warp are taken for all",
        ),
        "few",
        ("mismatch",),
    ),
    (
        Mutation(MMA, "stage.tokens() + warp_m * ROW_BYTES", "stage.tokens()", "all warps multiply the first tokens"),
        "long",
        ("mismatch",),
    ),
)
_MMA_SPARSE: tuple[_Expected, ...] = (
    (
        Mutation(MMA_SPARSE, "(metadata + lane * 4)", "(metadata + (lane ^ 1) * 4)", "the metadata of another lane"),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(
            MMA_SPARSE, "chunk_place<BYTES>(IN_BYTES * lane + HALF)", "(IN_BYTES * lane + HALF)", "halves in one place"
        ),
        "16 bits",
        ("mismatch",),
    ),
)
_SCALED: tuple[_Expected, ...] = (
    (
        Mutation(SCALES, "min(block, blocks - 1)) * 16", "block) * 16", "scales are read that do not exist"),
        "ragged",
        ("out of bounds",),
    ),
    (
        Mutation(SCALES, "? step / steps :", "? step :", "steps do not share their scales"),
        "long",
        ("mismatch",),
    ),
)
_MMA_SCALED: tuple[_Expected, ...] = (
    *_SCALED,
    (
        Mutation(
            MMA, "next.load(args, block, (step + 1) * SLABS", "next.load(args, block, step * SLABS", "a step late"
        ),
        "ragged",
        ("mismatch",),
    ),
)

_NUMBERS: dict[str, Mutation] = {
    "16bit": Mutation(UNPACK, "(0xC300u + above)", "(0xC301u + above)", "one is subtracted too much"),
    "int8": Mutation(UNPACK, "a[1] = first & 0xF0F0F0F0", "a[1] = first & 0x70F0F0F0", "a sign is lost"),
    "fp8": Mutation(UNPACK, "0xCACCCED0", "0xCACCCE50", "-8 becomes 8"),
}

#: Of sm90_swap_ab.cuh and what it includes.
_HOPPER: tuple[_Expected, ...] = (
    (
        Mutation(
            PIPELINE, "turn.parity ^ 1);\n    } else", "turn.parity);\n    } else", "the wrong phase of an empty stage"
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(
            HOPPER, "TOKEN_BYTES + Format::BYTES);\n        Format", "TOKEN_BYTES);\n        Format", "too few bytes"
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(PIPELINE, "      if (lane == 0) mbarrier_arrive(empty(stage));\n", "", "nobody gives a stage back"),
        "long",
        STUCK,
    ),
    (
        Mutation(
            HOPPER,
            "      barrier_sync(1 + group, GROUP);\n      store_staged",
            "      store_staged",
            "staged tokens are read before all are there",
        ),
        "long",
        ("race", "uninitialized"),
    ),
    (
        Mutation(
            HOPPER, "      barrier_sync(1 + group, GROUP);  // all", "      // all", "unread tokens are overwritten"
        ),
        "two parts",
        ("race",),
    ),
    (
        Mutation(HOPPER, "group * STAGING_BYTES", "0 * STAGING_BYTES", "both warpgroups stage in one place"),
        "long",
        ("race", "mismatch"),
    ),
    (
        Mutation(HOPPER, "(first + j) / 2 + 2 * half;", "j / 2 + 2 * half;", "the first tokens are stored for all"),
        "two parts",
        ("mismatch",),
    ),
    (
        Mutation(PIPELINE, "const s32 part = rank * ROWS;", "const s32 part = 0;", "both blocks load the same tokens"),
        "cluster",
        ANY_ORDER,
    ),
    (
        Mutation(PIPELINE, "    row += rank * LEFT;\n", "", "both blocks of a cluster compute the first channels"),
        "cluster",
        ("mismatch", "race"),
    ),
    (
        Mutation(EPILOGUE, "if (token >= m", "if (token > m", "one token too many is stored"),
        "ragged",
        ("out of bounds", "race"),
    ),
)
_HOPPER_SPARSE: tuple[_Expected, ...] = (
    (
        Mutation(HOPPER_SPARSE, "left + 2, right + 4", "left + 2, right + 2", "half of the tokens' bytes"),
        "long",
        ("mismatch",),
    ),
    (
        Mutation(HOPPER_SPARSE, "metadata[i].y, true", "metadata[i].x, true", "the metadata of the first half"),
        "long",
        ("mismatch",),
    ),
    (
        Mutation(HOPPER_SPARSE, "min(channel / 8,", "min(channel / 16,", "the metadata of other channels"),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(HOPPER_SPARSE, "(group * GROUP_N + 64 * i) * 64", "64 * i * 64", "both multiply the first channels"),
        "long",
        ("mismatch",),
    ),
)
_HOPPER_SCALED: tuple[_Expected, ...] = (
    *_SCALED,
    (
        Mutation(
            HOPPER_INT4, "values[k % 2][i], right + 2 * k", "values[k % 2][i], right", "the first bytes of tokens"
        ),
        "long",
        ("mismatch",),
    ),
    (
        Mutation(HOPPER_INT4, "group * BLOCKS_N + i)", "i)", "both warpgroups multiply the first channels"),
        "long",
        ("mismatch",),
    ),
    (
        Mutation(HOPPER_INT4, "next.load(args, channel, step + 1)", "next.load(args, channel, step)", "a step late"),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(
            HOPPER_INT4,
            "    __syncwarp();  // all lanes have read before one gives the stage back\n",
            "",
            "a stage is given back that lanes still read",
        ),
        "long",
        ("race",),
    ),
    (
        Mutation(HOPPER_INT4, "        wgmma_wait<1>();\n", "", "registers are filled while they are multiplied"),
        "one scale a row",
        ANY_ORDER,
    ),
)


def _of(kind: Packed[Any]) -> Iterator[_Expected]:
    yield from _HOPPER if isinstance(kind, Sm90Packed) else _MMA
    if kind.sparse:
        yield from _HOPPER_SPARSE if isinstance(kind, Sm90Packed) else _MMA_SPARSE
        return
    yield from _HOPPER_SCALED if isinstance(kind, Sm90Packed) else _MMA_SCALED
    format_ = "16bit" if kind.in_bytes == 2 else "fp8" if torch.float8_e4m3fn in kind.dtypes else "int8"
    yield _NUMBERS[format_], "ragged", ("mismatch",)


def _mistakes(kind: Packed[Any]) -> Iterator[Mistake]:
    checks = _checks(kind)
    if isinstance(kind, Sm90Packed):
        checks["two parts"] = matmul(case(kind.name, (64, 64, 256)), HopperPackedTile(64, 1, 64, 2, 1))
        checks["one scale a row"] = matmul(case(kind.name, (32, 64, 512)), HOPPER_SMALL)
    for mutation, check, shown in _of(kind):
        if check == "16 bits":
            if kind.in_bytes == 1:
                continue
            check = "long"
        yield Mistake(kind.name, mutation, checks[check], shown)


PACKED_MISTAKES: tuple[Mistake, ...] = tuple(mistake for kind in KINDS.values() for mistake in _mistakes(kind))
