"""Launches every kernel of this GPU on small ragged shapes: what compute-sanitizer watches."""

from __future__ import annotations

from collections.abc import Iterator

import click
import torch

from benchmarks.gpu.launches import Case, run
from quant.kernels.matmuls import table
from quant.kernels.numerics import CODES
from quant.kernels.runtime import availability, cupy_launch

#: Rows, many and few: some kernels take another way with few. No multiple of any tile.
M, FEW = 33, 7
#: Columns: not of the 16 bytes that are copied at once. Of a 2:4 weight they are a multiple of 4.
K, K_OF_SPARSE = 203, 204
#: Columns that share a scale, and all of them: ends within what a kernel takes in one step.
GROUPS = {32: 224, 64: 192, 128: 384}


def kernels(arch: str) -> list[str]:
    """The names of the kernels that are launched on an architecture."""
    return [kernel.name for kernel in table.KERNELS if arch in kernel.architectures]


def cases(arch: str) -> list[Case]:
    """What is launched on an architecture."""
    return [case for kernel in kernels(arch) for case in of_kernel(kernel)]


def of_kernel(kernel: str) -> Iterator[Case]:
    """Every dtype; of a 2:4 or 4-bit weight also few rows; of a 4-bit one also groups, and zero points."""
    (row,) = (each for each in table.KERNELS if each.name == kernel)
    op, dtypes = row.op, row.dtypes
    if op in ("quantize_rows", "scaled_mm"):
        yield from (Case(kernel, op, dtype, M, K) for dtype in dtypes)
        return
    rows = [m for m in (M, FEW) if m >= row.limits.m_at_least]
    if op == "sparse_scaled_mm":
        yield from (Case(kernel, op, dtype, m, K_OF_SPARSE) for dtype in dtypes for m in rows)
        return
    yield from (Case(kernel, op, dtype, M, K) for dtype in dtypes)
    yield from (Case(kernel, op, dtypes[0], M, k, group) for group, k in GROUPS.items())
    yield from (Case(kernel, op, dtypes[0], m, GROUPS[128], 128) for m in rows if m != M)
    if dtypes[0] not in CODES:
        yield from (Case(kernel, op, dtypes[0], M, GROUPS[group], group, asymmetric=True) for group in (32, 128))


@click.command(help=__doc__)
def main() -> None:
    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise click.ClickException(f"no GPU is usable: {reason}")
    wrong = []
    for case in cases(cupy_launch.device_architecture(cupy_launch.device_index(device)).name):
        found = run(case, device)
        click.echo(f"{case}: differs from the reference by {found:.2g}")
        if not found <= 0.01:
            wrong.append(str(case))
    if wrong:
        raise click.ClickException(f"wrong results: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
