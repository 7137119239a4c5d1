"""Mistakes in the matmul kernels of Hopper, made in each of the two."""

from __future__ import annotations

from functools import cache

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import sm90_gemm
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from tests.emulator.emulator import Mutation
from tests.kernels.emulated import multiply
from tests.kernels.matmul_cases import FP8, INT8, allowed, operands, scales
from tests.kernels.mistakes import Check, Mistake, Sources

SOURCE, PIPELINE = "sm90_gemm.cuh", "sm90_pipeline.cuh"
SMALL = HopperTile(64, 1, 64, 2, 1)
TWO_GROUPS = HopperTile(128, 2, 64, 2, 1)
CLUSTER = HopperTile(128, 2, 64, 2, 2)


def gemm(
    dtype: torch.dtype,
    size: tuple[int, int, int],
    tile: HopperTile = SMALL,
    *,
    kind: str = "rows",
    fill: str = "every code",
    out_dtype: torch.dtype = torch.float32,
    multiprocessors: int = 2,
) -> Check:
    """A matmul against its reference, under early and late copies."""

    def check(sources: Sources) -> str | None:
        m, n, k = size
        a, b, generator = operands(m, n, k, dtype, fill)
        epilogue = Epilogue(*scales(m, n, k, kind, generator), torch.randn(n, generator=generator), out_dtype=out_dtype)
        expected = scaled_mm_reference(a, b, epilogue).float()
        kernel = sm90_gemm.INT8_GEMM if dtype == INT8 else sm90_gemm.FP8_GEMM
        # A bf16 result of FP8 sums may round to the other side of a tie.
        slack = 0.0 if out_dtype == torch.float32 or dtype == INT8 else expected.abs().max().item() * 2.0**-8
        for seed, copies in enumerate(("late", "early", "random")):
            out, counts = multiply(
                kernel, a, b, epilogue, tile, multiprocessors=multiprocessors, seed=seed, copies=copies, sources=sources
            )
            if not ((out.float() - expected).abs() <= allowed(a, b, epilogue) + slack).all():
                return "mismatch"
            if counts.stmatrix_conflicts:
                return "conflicts"
        return None

    return check


@cache
def _checks(dtype: torch.dtype) -> dict[str, Check]:
    return {
        "ragged": gemm(dtype, (70, 136, 400)),
        "long": gemm(dtype, (130, 128, 1040), TWO_GROUPS, out_dtype=torch.bfloat16),
        "cluster": gemm(dtype, (300, 256, 700), CLUSTER, out_dtype=torch.bfloat16, multiprocessors=4),
        "boxes": gemm(dtype, (200, 256, 128), TWO_GROUPS, out_dtype=torch.bfloat16, multiprocessors=1),
        "blocks": gemm(dtype, (70, 200, 400), kind="blocks"),
        "blocks both": gemm(dtype, (70, 200, 400), kind="blocks both"),
        "odd": gemm(dtype, (70, 77, 100)),
    }


#: What may show when the order of copies, multiplications and barriers is wrong: whatever comes first.
ANY_ORDER = (
    "race",
    "async in flight",
    "uninitialized",
    "mismatch",
    "deadlock",
    "missing fence",
    "exited block",
    "bad argument",
    "mbarrier",
    "divergence",
)
#: Nobody goes on; named so where the lanes of a warp wait in different places.
STUCK = ("deadlock", "divergence")

_WAIT = "      barriers.wait_full(turn);\n"

_MISTAKES: tuple[tuple[Mutation, str, tuple[str, ...]], ...] = (
    (
        Mutation(
            PIPELINE,
            "turn.parity ^ 1);\n    } else",
            "turn.parity);\n    } else",
            "the wrong phase of an empty stage",
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "mbarrier_expect_bytes(full, A_BYTES + B_BYTES)",
            "mbarrier_expect_bytes(full, A_BYTES)",
            "too few bytes",
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "mbarrier_expect_bytes(full, A_BYTES + B_BYTES)",
            "mbarrier_expect_bytes(full, A_BYTES + B_BYTES + 16)",
            "too many bytes",
        ),
        "long",
        STUCK,
    ),
    (
        Mutation(
            PIPELINE,
            "      if (lane == 0) mbarrier_arrive(empty(stage));\n",
            "",
            "nobody says that a stage is empty",
        ),
        "long",
        STUCK,
    ),
    (
        Mutation(
            PIPELINE,
            "mbarrier_init(empty(stage), 4 * GROUPS * CLUSTER)",
            "mbarrier_init(empty(stage), 4 * CLUSTER)",
            "one warpgroup empties a stage for both",
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "      wgmma_wait<0>();\n      barriers.release(turn.stage);\n",
            "      barriers.release(turn.stage);\n      wgmma_wait<0>();\n",
            "a stage is given back while it is multiplied",
        ),
        "promoted",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "        wgmma_wait<1>();\n        barriers.release(before);",
            "        wgmma_wait<1>();\n        barriers.release(turn.stage);",
            "the stage in work is given back",
        ),
        "exact",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "    wgmma_wait<0>();\n    barriers.release(before);\n",
            "    barriers.release(before);\n",
            "sums are read before they are there",
        ),
        "exact",
        ANY_ORDER,
    ),
    (
        Mutation(SOURCE, "a + 2 * k, b + 2 * k", "a + 2 * k, b", "b's descriptor stays where it was"),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(
            SOURCE, "(group * GROUP_M + 64 * i) * TILE_K", "64 * i * TILE_K", "both warpgroups multiply the first rows"
        ),
        "long",
        ("mismatch",),
    ),
    (
        Mutation(
            SOURCE,
            f"{_WAIT}      multiply(sums, shared, turn.stage, group, false);",
            "      multiply(sums, shared, turn.stage, group, false);",
            "nobody waits for the bytes",
        ),
        "promoted",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            f"{_WAIT}      multiply(sums, shared, turn.stage, group, k > 0);",
            "      multiply(sums, shared, turn.stage, group, k > 0);",
            "nobody waits for the bytes",
        ),
        "exact",
        ANY_ORDER,
    ),
    (
        Mutation(
            PIPELINE,
            "if (++stage == STAGES) stage = 0, parity ^= 1;",
            "if (++stage == STAGES) stage = 0;",
            "phases are not counted",
        ),
        "long",
        ANY_ORDER,
    ),
    (
        Mutation(SOURCE, "    if (leads) tma_store_wait_read<1>();", "    //", "a box is written while it is stored"),
        "boxes",
        ANY_ORDER,
    ),
    (
        Mutation(SOURCE, "    fence_async();\n", "", "written results are not fenced from the copy engine"),
        "boxes",
        ("missing fence",),
    ),
    (
        Mutation(
            SOURCE,
            "    fence_async();\n    barrier_sync(1 + group, GROUP);\n",
            "    fence_async();\n",
            "a box is stored before all have written it",
        ),
        "boxes",
        ANY_ORDER,
    ),
    (
        Mutation(
            SOURCE,
            "((j + lane / 16) ^ (row & 7)) * 16, packed",
            "(j + lane / 16) * 16, packed",
            "boxes are not swizzled",
        ),
        "boxes",
        ("mismatch", "conflicts"),
    ),
    (
        Mutation(
            PIPELINE,
            "const s32 part = rank * ROWS;",
            "const s32 part = 0;",
            "both blocks load the same half of b",
        ),
        "cluster",
        ANY_ORDER,
    ),
    (
        Mutation(
            PIPELINE,
            "} else if (lane < CLUSTER) {",
            "} else if (lane == cluster_rank()) {",
            "the other block is not told that a stage is empty",
        ),
        "cluster",
        ANY_ORDER,
    ),
    (
        Mutation(PIPELINE, "  if (CLUSTER > 1) cluster_sync();", "  //", "a block ends while another still reaches it"),
        "cluster",
        ANY_ORDER,
    ),
    (
        Mutation(PIPELINE, "    row += rank * LEFT;\n", "", "both blocks of a cluster compute the upper tile"),
        "cluster",
        ("mismatch", "race"),
    ),
    (
        Mutation(
            SOURCE,
            "if (m >= args.m || count <= 0) continue;",
            "if (m > args.m || count <= 0) continue;",
            "one row too many is stored",
        ),
        "odd",
        ("out of bounds", "race"),
    ),
    (
        Mutation(
            SOURCE,
            "column / SCALE_BLOCK) * args.k_blocks + block",
            "column / SCALE_BLOCK) * args.k_blocks",
            "one block of K for all",
        ),
        "blocks",
        ("mismatch",),
    ),
    (
        Mutation(
            SOURCE,
            "min(row + 64 * i + 8 * half, args.m - 1)",
            "min(row + 64 * i, args.m - 1)",
            "both halves by one row's scale",
        ),
        "blocks both",
        ("mismatch",),
    ),
    (
        Mutation(SOURCE, "rows[half], column + 8 * of", "rows[0], column + 8 * of", "the scale of the row 8 above"),
        "boxes",
        ("mismatch",),
    ),
)

#: The promoted sums are FP8's, the exact ones INT8's.
_ONLY = {"promoted": FP8, "exact": INT8}

HOPPER_MISTAKES: tuple[Mistake, ...] = (
    *(
        Mistake(kernel, mutation, _checks(dtype)["long" if check in _ONLY else check], shown)
        for kernel, dtype in ((sm90_gemm.INT8_GEMM.name, INT8), (sm90_gemm.FP8_GEMM.name, FP8))
        for mutation, check, shown in _MISTAKES
        if _ONLY.get(check, dtype) == dtype
    ),
    Mistake(
        sm90_gemm.FP8_GEMM.name,
        Mutation("sm90_fp8_gemm.cu", "PROMOTED = !FAST_SUMS", "PROMOTED = false", "the sum is left to the tensor core"),
        gemm(FP8, (16, 64, 8192), fill="positive"),
        ("mismatch",),
    ),
)
