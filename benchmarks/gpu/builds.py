"""What the smoke run and the benchmark will launch, to be compiled before: plans on tensors without data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import launches, shapes, smoke
from benchmarks.gpu.contestants import FORMATS
from benchmarks.gpu.inputs import DTYPES
from benchmarks.gpu.launches import Case
from benchmarks.gpu.ours import ROWS, kernels, layout_of
from benchmarks.gpu.ours_weights import OPS, dtype_of
from benchmarks.gpu.rows import EPS
from benchmarks.gpu.weights import GROUP
from quant.kernels import tile_tables
from quant.kernels.arguments import Epilogue, Int4Weight, Prologue, Sparse24Weight
from quant.kernels.layouts import int4_fragments
from quant.kernels.matmuls import table
from quant.kernels.matmuls.packed import Weight
from quant.kernels.numerics import CODES
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.runtime.launch import Build
from quant.kernels.weight_orders import SPARSE_MODULES


class Device(NamedTuple):
    """What a choice of tiles depends on."""

    architecture: Architecture
    multiprocessors: int


def of_smoke(device: Device) -> list[Build]:
    """Of the smoke run, each once."""
    return _once(_of_case(case, device) for case in smoke.cases(device.architecture.name))


def of_bench(device: Device, *, quick: bool) -> list[Build]:
    """Of the benchmark's matmuls and rows, in the order that it comes to them, each once."""
    matmuls = (build for shape in shapes.matmuls(quick=quick) for build in _of_shape(shape, device))
    return _once([*matmuls, *(build for size in shapes.rows(quick=quick) for build in _of_rows(size, device))])


def _once(builds: Iterable[Build]) -> list[Build]:
    return list(dict.fromkeys(builds))


def _of_case(case: Case, device: Device) -> Build:
    if case.op == "quantize_rows":
        row, whole = _empty(1, case.k), _empty(case.m, case.k)
        prologue = Prologue(row[0], "layer", row[0], row[0], EPS, row, whole)
        return _planned(case.kernel, device, whole.to(torch.bfloat16), case.dtype, None, prologue)
    epilogue = launches.moved(launches.epilogue(case, torch.Generator().manual_seed(0)), torch.device("meta"))
    return _multiplied(case, launches.N, epilogue, device)


def _of_shape(shape: shapes.Shape, device: Device) -> Iterator[Build]:
    size = (shape.m, shape.n, shape.k)
    for _, x, weight in FORMATS.values():
        dtype, op, group = dtype_of(x), OPS.get(weight, "scaled_mm"), GROUP if weight == "int4" else 0
        for kernel, refusal in kernels(dtype, *size, device.architecture.capability, op=op, group=group):
            if refusal is None:
                case = Case(kernel, op, dtype, shape.m, shape.k, group)
                for ending in _endings(case, shape):
                    yield _multiplied(case, shape.n, ending, device)
                if dtype in CODES:
                    yield _planned(ROWS, device, _floats(shape.m, shape.k), dtype, None, Prologue())


def _endings(case: Case, shape: shapes.Shape) -> Iterator[Epilogue]:
    """Of a bare matmul, and of one as used."""
    codes = case.dtype in CODES
    a_scale = _empty(shape.m if codes else 1, 1)
    b_scale = _empty(shape.n if codes and case.op != "int4_mm" else 1, 1)
    yield Epilogue(a_scale, b_scale)
    yield Epilogue(a_scale, b_scale, _floats(1, shape.n)[0], shape.activation)


def _of_rows(size: shapes.Rows, device: Device) -> Iterator[Build]:
    x, row = _floats(size.m, size.k), _floats(1, size.k)
    for dtype in DTYPES.values():
        for prologue in (Prologue(), Prologue(None, "layer", None, None, EPS, row, row)):
            yield _planned(ROWS, device, x, dtype, None, prologue)


def _multiplied(case: Case, n: int, epilogue: Epilogue, device: Device) -> Build:
    a = torch.empty(case.m, case.k, dtype=case.dtype, device="meta")
    return _planned(case.kernel, device, a, _weight(case, n), epilogue)


def _planned(name: str, device: Device, *operands: Any) -> Build:
    (kernel,) = (each for each in table.KERNELS if each.name == name)
    return kernel.planned(tile_tables.gpu(*device), *operands).launch.build


def _weight(case: Case, n: int) -> torch.Tensor | Weight:
    if case.op == "scaled_mm":
        return torch.empty(n, case.k, dtype=case.dtype, device="meta")
    layout = layout_of(case.kernel)
    if case.op == "sparse_scaled_mm":
        values, meta = SPARSE_MODULES[layout].shapes(n, case.k, case.dtype.itemsize)
        return Sparse24Weight(
            torch.empty(values, dtype=case.dtype, device="meta"),
            torch.empty(meta, dtype=torch.int32, device="meta"),
            n,
            layout,
        )
    groups = (case.k // case.group if case.group else 1, int4_fragments.groups_width(n))
    return Int4Weight(
        torch.empty(int4_fragments.shape(n, case.k), dtype=torch.int32, device="meta"),
        torch.empty(groups, dtype=torch.bfloat16 if case.dtype in CODES else case.dtype, device="meta"),
        torch.empty(groups, dtype=torch.int8, device="meta") if case.asymmetric else None,
        n,
        layout,
    )


def _empty(*size: int) -> torch.Tensor:
    return torch.empty(size, device="meta")


def _floats(*size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.bfloat16, device="meta")
