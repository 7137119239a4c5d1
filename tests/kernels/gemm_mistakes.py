"""Mistakes in the matmul kernels: most in the skeleton they share, made in each of them."""

from __future__ import annotations

from functools import cache

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.matmuls import mma_gemm
from quant.kernels.matmuls.mma_gemm import MmaTile
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from tests.emulator.emulator import Mutation
from tests.kernels.emulated import multiply
from tests.kernels.matmul_cases import FP8, INT8, allowed, operands, scales
from tests.kernels.mistakes import Check, Mistake, Sources

GEMM, EPILOGUE, PLACEMENT, ROWS = "mma_gemm.cuh", "epilogue.cuh", "placement.cuh", "rows.cuh"
COPIES = "row_copies.cuh"
TILE = MmaTile(32, 64, 128, 16, 32, 4)


def gemm(
    dtype: torch.dtype,
    size: tuple[int, int, int],
    *,
    kind: str = "rows",
    fill: str = "every code",
    tile: MmaTile = TILE,
    full: bool = False,
    out_dtype: torch.dtype = torch.float32,
) -> Check:
    """A matmul against its reference; `full` has a bias, a gate for each of three samples and a residual."""

    def check(sources: Sources) -> str | None:
        m, n, k = size
        a, b, generator = operands(m, n, k, dtype, fill)
        epilogue = Epilogue(*scales(m, n, k, kind, generator), out_dtype=out_dtype)
        if full:
            epilogue = epilogue._replace(
                bias=torch.randn(n, generator=generator),
                gate=torch.randn(3, 1, 1, n, generator=generator).expand(3, 2, m // 6, n),
                residual=torch.randn(m, n, generator=generator),
            )
        kernel = mma_gemm.INT8_GEMM if dtype == INT8 else mma_gemm.FP8_GEMM
        out, counts = multiply(kernel, a, b, epilogue, tile, sources=sources)
        bound = allowed(a, b, epilogue)
        if not ((out.float() - scaled_mm_reference(a, b, epilogue).float()).abs() <= bound).all():
            return "mismatch"
        conflicts = counts.ldmatrix_conflicts + counts.copy_conflicts + counts.shared_load_conflicts
        return "conflicts" if conflicts + counts.shared_store_conflicts else None

    return check


#: Of the shared skeleton; each is made in the INT8 and in the FP8 kernel.
_SKELETON: tuple[tuple[Mutation, str, tuple[str, ...]], ...] = (
    (
        Mutation(GEMM, "    __syncthreads();\n    copy_step", "    copy_step", "the barrier of a step is missing"),
        "long",
        ("race", "async in flight", "uninitialized"),
    ),
    (
        Mutation(GEMM, "cp_async_wait<STAGES - 2>()", "cp_async_wait<STAGES - 1>()", "it waits for one step too few"),
        "long",
        ("async in flight",),
    ),
    (
        Mutation(
            GEMM, "  cp_async_commit();  // also", "  if (step < steps) cp_async_commit();  // also", "no empty groups"
        ),
        "long",
        ("async in flight",),
    ),
    (
        Mutation(COPIES, "chunk ^ (row & 7)", "chunk", "rows of a stage are not swizzled"),
        "ragged",
        ("conflicts",),
    ),
    (
        Mutation(GEMM, "(chunk ^ (row & 3) << 1 ^ ((row ^ chunk >> 3) & 1))", "chunk", "staged rows are not swizzled"),
        "ragged",
        ("conflicts",),
    ),
    (
        Mutation(COPIES, "own < rows &&", "own <= rows &&", "one row too many is copied"),
        "ragged",
        ("out of bounds",),
    ),
    (
        Mutation(COPIES, " && step * ROW_BYTES + column < k", "", "the tail of K is copied from the next row"),
        "ragged",
        ("mismatch", "out of bounds"),
    ),
    (
        Mutation(COPIES, "exists ? 16 : 0", "16", "what does not exist is not made zero"),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(
            GEMM, "step % STAGES * STAGE_BYTES;\n    if", "(step + 1) % STAGES * STAGE_BYTES;\n    if", "another stage"
        ),
        "long",
        ("race", "uninitialized", "async in flight", "mismatch"),
    ),
    (
        Mutation(
            GEMM, "lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2", "lane % 16, 2 * k + lane / 16", "b as if it were a"
        ),
        "ragged",
        ("mismatch",),
    ),
    (
        Mutation(
            GEMM,
            "  __syncthreads();  // the staging",
            "  // the staging",
            "staging overwrites what is still multiplied",
        ),
        "long",
        ("race",),
    ),
    (
        Mutation(
            GEMM, "    __syncwarp();\n#pragma unroll 1", "#pragma unroll 1", "staged rows are read before all are there"
        ),
        "ragged",
        ("race",),
    ),
    (
        Mutation(
            GEMM, "    __syncwarp();  // all have read", "    // all have read", "the next rows overwrite unread ones"
        ),
        "tall",
        ("race",),
    ),
    (
        Mutation(GEMM, "m < args.m && count > 0", "m <= args.m && count > 0", "one row too many is stored"),
        "ragged",
        ("out of bounds", "race"),
    ),
    (
        Mutation(
            ROWS, "  if constexpr (ALIGNED) {\n    store", "  if constexpr (true) {\n    store", "rows begin anywhere"
        ),
        "odd",
        ("misaligned", "out of bounds"),
    ),
    (
        Mutation(ROWS, "if (i < count) store", "if (i <= count) store", "one column too many is stored"),
        "odd",
        ("race", "out of bounds"),
    ),
    (
        Mutation(
            PLACEMENT, "min(static_cast<u32>(SUPERTILE), tiles_m - above)", "SUPERTILE", "tiles below the last row"
        ),
        "ragged",
        ("mismatch", "out of bounds"),
    ),
    (
        Mutation(EPILOGUE, "epilogue.a_scale[m *", "epilogue.a_scale[(m ^ 1) *", "the scale of the row beside"),
        "ragged",
        ("mismatch", "out of bounds"),
    ),
    (
        Mutation(
            ROWS, "  if constexpr (ALIGNED) {\n    load", "  if constexpr (true) {\n    load", "operands begin anywhere"
        ),
        "odd full",
        ("misaligned", "out of bounds"),
    ),
    (
        Mutation(ROWS, "i < count ? load", "i <= count ? load", "one column too many is read"),
        "odd full",
        ("out of bounds",),
    ),
    (
        Mutation(
            ROWS, "rest / rows.middle * rows.outer_stride", "rest * rows.outer_stride", "the gate of another sample"
        ),
        "full",
        ("mismatch", "out of bounds"),
    ),
    (
        Mutation(
            EPILOGUE,
            "other[i] * x[i];\n  }\n  if constexpr (PARTS & RES",
            "other[i] + x[i];\n  }\n  if constexpr (PARTS & RES",
            "the gate is added",
        ),
        "full",
        ("mismatch",),
    ),
    (
        Mutation(
            GEMM,
            "column / SCALE_BLOCK) * args.k_blocks + block",
            "column / SCALE_BLOCK) * args.k_blocks",
            "one block of K for all",
        ),
        "blocks",
        ("mismatch",),
    ),
    (
        Mutation(
            GEMM,
            "            partial[i][j][e] = 0;\n          }\n      }",
            "          }\n      }",
            "a promoted sum goes on",
        ),
        "blocks",
        ("mismatch",),
    ),
    (
        Mutation(GEMM, "row + i * 16 + half * 8 +", "row + i * 16 +", "both halves of a fragment by one row's scale"),
        "blocks both",
        ("mismatch",),
    ),
)


@cache
def _skeleton(dtype: torch.dtype) -> dict[str, Check]:
    return {
        "ragged": gemm(dtype, (45, 72, 272)),
        "long": gemm(dtype, (32, 64, 640)),  # 5 steps, so that the last is multiplied where staging will lie
        "tall": gemm(dtype, (64, 64, 64), tile=MmaTile(64, 64, 128, 32, 32, 3)),
        "odd": gemm(dtype, (9, 77, 64)),
        "full": gemm(dtype, (42, 72, 96), full=True),
        "odd full": gemm(dtype, (42, 77, 96), full=True),
        "blocks": gemm(dtype, (33, 200, 300), kind="blocks"),
        "blocks both": gemm(dtype, (33, 200, 300), kind="blocks both"),
    }


_PROMOTION = Mutation(
    GEMM,
    "((step + 1) * TILE_K % SCALE_BLOCK == 0 || step + 1 == steps)",
    "step + 1 == steps",
    "the whole sum is left to the tensor core",
)

GEMM_MISTAKES: tuple[Mistake, ...] = (
    *(
        Mistake(kernel, mutation, _skeleton(dtype)[check], shown)
        for kernel, dtype in ((mma_gemm.INT8_GEMM.name, INT8), (mma_gemm.FP8_GEMM.name, FP8))
        for mutation, check, shown in _SKELETON
    ),
    Mistake(mma_gemm.FP8_GEMM.name, _PROMOTION, gemm(FP8, (16, 32, 8192), fill="positive"), ("mismatch",)),
)
