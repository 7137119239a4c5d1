"""The structures that Python fills, against those that the CUDA compiler lays out from the sources."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import pytest
import torch

from quant.kernels.arguments import SCALE_BLOCK
from quant.kernels.host import epilogue as endings
from quant.kernels.host import structures
from quant.kernels.host.structures import (
    ACTIVATIONS,
    DTYPES,
    NORMS,
    Epilogue,
    GroupScales,
    HopperArguments,
    HopperSwapArguments,
    MmaArguments,
    QuantizeArguments,
    Rows,
    SwapArguments,
)
from quant.kernels.matmuls import mma_gemm, mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.base import Kernel
from quant.kernels.matmuls.mma_gemm import MmaTile
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.packed import Variant
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.matmuls.sm90_packed import HopperPackedTile
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import compile_cubin
from quant.kernels.runtime.sources import needed, shipped

_ENDING = dict.fromkeys(("OUT", "ACTIVATE", "PARTS", "BLOCK_SCALES", "ALIGNED", "FAST_SUMS"), 0)
Row = TypeVar("Row", bound=Kernel)


def _layout(kernel: Row) -> Row:
    return replace(kernel, name="layout")


#: What each file is compiled with, and for which architecture; no structure depends on it.
FILES: dict[str, tuple[Build, str]] = {
    "mma_gemm.cuh": (
        _layout(mma_gemm.INT8_GEMM).build(MmaTile(64, 64, 64, 32, 32, 2), _ENDING),
        "sm_89",
    ),
    "sm90_gemm.cuh": (
        _layout(sm90_gemm.INT8_GEMM).build(HopperTile(64, 1, 64, 2, 1), {"STAGED": 0}, _ENDING),
        "sm_90a",
    ),
    "mma_swap_ab.cuh": (
        _layout(mma_packed.W4A8).build(PackedTile(64, 64, 1, 32, 32, 1, 2), Variant(torch.int8).defines(), _ENDING),
        "sm_80",
    ),
    "sm90_swap_ab.cuh": (
        _layout(sm90_packed.W4A8).build(HopperPackedTile(64, 1, 64, 2, 1), Variant(torch.int8).defines(), _ENDING),
        "sm_90a",
    ),
    "quantize_rows.cu": (rows_host.build(256, torch.int8, "none")._replace(kernel="layout"), "sm_80"),
}
STRUCTURES: list[tuple[type[ctypes.Structure], str]] = [
    (Rows, "mma_gemm.cuh"),
    (Rows, "sm90_gemm.cuh"),
    (Rows, "quantize_rows.cu"),
    (Epilogue, "mma_gemm.cuh"),
    (Epilogue, "sm90_gemm.cuh"),
    (MmaArguments, "mma_gemm.cuh"),
    (HopperArguments, "sm90_gemm.cuh"),
    (GroupScales, "mma_swap_ab.cuh"),
    (GroupScales, "sm90_swap_ab.cuh"),
    (SwapArguments, "mma_swap_ab.cuh"),
    (HopperSwapArguments, "sm90_swap_ab.cuh"),
    (QuantizeArguments, "quantize_rows.cu"),
]
#: A map is an array of bytes here and a class there.
KINDS = {ctypes.c_void_p: "POINTER", ctypes.c_int32: "INTEGER", ctypes.c_int64: "INTEGER", ctypes.c_float: "FLOATING"}
#: File of each enum, the file that is compiled, and what Python knows of it.
ENUMS: dict[str, tuple[str, str, Mapping[str, int]]] = {
    "Dtype": (
        "numbers.cuh",
        "mma_gemm.cuh",
        {
            "BF16": DTYPES[torch.bfloat16],
            "F16": DTYPES[torch.float16],
            "F32": DTYPES[torch.float32],
            "S8": DTYPES[torch.int8],
            "E4M3": DTYPES[torch.float8_e4m3fn],
        },
    ),
    "Activation": ("epilogue.cuh", "mma_gemm.cuh", {name.upper(): value for name, value in ACTIVATIONS.items()}),
    "Part": ("epilogue.cuh", "sm90_gemm.cuh", {name.upper(): value for name, value in endings.PARTS.items()}),
    "Blocks": (
        "epilogue.cuh",
        "sm90_gemm.cuh",
        {name: getattr(endings, name) for name in ("NO_BLOCKS", "BLOCKS_OF_B", "BLOCKS_OF_BOTH")},
    ),
    "Norm": (
        "quantize_rows.cu",
        "quantize_rows.cu",
        {"NO_NORM": NORMS["none"], "LAYER_NORM": NORMS["layer"], "RMS_NORM": NORMS["rms"]},
    ),
}
KIND_OF = """
enum KindOf { POINTER, INTEGER, FLOATING, CLASS };
template <class T> constexpr KindOf kind_of = __is_class(T) ? CLASS : INTEGER;
template <class T> constexpr KindOf kind_of<T*> = POINTER;
template <> constexpr KindOf kind_of<float> = FLOATING;
"""


def claims(structure: type[ctypes.Structure]) -> dict[str, str]:
    """What Python takes for granted: a word for it, and a condition in C++."""
    name = structure.__name__
    found = {f"size of {name}": f"sizeof({name}) == {ctypes.sizeof(structure)}"}
    for field, of, *_ in structure._fields_:
        place = getattr(structure, field)
        found[f"place of {name}.{field}"] = f"__builtin_offsetof({name}, {field}) == {place.offset}"
        found[f"size of {name}.{field}"] = f"sizeof({name}::{field}) == {place.size}"
        kind = KINDS.get(of, "INTEGER" if field == "unused" else "CLASS")  # bytes up to the next multiple
        found[f"kind of {name}.{field}"] = f"kind_of<decltype({name}::{field})> == {kind}"
    return found


def refuted(file: str, conditions: Mapping[str, str], more: str = "") -> list[str]:
    """Those of the claims about a file that its compilation refutes; `more` is compiled with them."""
    build, arch = FILES[file]
    lines = [f'static_assert({condition}, "{word}");' for word, condition in conditions.items()]
    main = 'extern "C" __global__ void layout() {}\n'
    text = "\n".join([f'#include "{file}"', KIND_OF, *lines, more, main])
    try:
        compile_cubin(build, arch, {**shipped(), "layout.cu": text})
    except KernelError as error:
        found = re.findall(r'static assertion failed with "([^"]*)"', str(error))
        if len(found) != str(error).count(": error: "):
            raise
        return found
    return []


def bound(structure: type[ctypes.Structure]) -> str:
    """A structured binding needs a name for every field, no more and no less."""
    names = ", ".join(f"f{index}" for index in range(len(structure._fields_)))
    return f"DEVICE void count({structure.__name__}& all) {{ auto& [{names}] = all; }}"


@pytest.mark.parametrize(("structure", "file"), STRUCTURES, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_lies_where_the_compiler_puts_it(structure: type[ctypes.Structure], file: str) -> None:
    assert refuted(file, claims(structure), bound(structure)) == []


def test_every_structure_is_compared() -> None:
    here = {each for each in vars(structures).values() if isinstance(each, type) and issubclass(each, ctypes.Structure)}
    assert here == {structure for structure, _ in STRUCTURES}


def test_a_structure_that_differs_is_found() -> None:
    """The comparison itself: fields exchanged, a wrong type, one left out, one too many."""

    class QuantizeArguments(ctypes.Structure):
        _fields_ = structures.QuantizeArguments._fields_

    class Rows(ctypes.Structure):
        _fields_ = (
            *structures.Rows._fields_[:4],
            ("inner", ctypes.c_int32),
            ("middle", ctypes.c_float),
            *structures.Rows._fields_[6:],
        )

    assert refuted("quantize_rows.cu", claims(QuantizeArguments), bound(QuantizeArguments)) == []
    assert refuted("quantize_rows.cu", claims(Rows)) == [
        "place of Rows.inner",
        "place of Rows.middle",
        "kind of Rows.middle",
    ]
    few, many = (type("Rows", (ctypes.Structure,), {"_fields_": structures.Rows._fields_[:end]}) for end in (6, 7))
    assert refuted("quantize_rows.cu", {}, bound(many)) == []
    with pytest.raises(KernelError, match="structured binding"):
        refuted("quantize_rows.cu", {}, bound(few))


@pytest.mark.parametrize(
    ("structure", "file", "maps"),
    [
        (HopperArguments, "sm90_gemm.cuh", ["a", "b", "out"]),
        (HopperSwapArguments, "sm90_swap_ab.cuh", ["a", "weight", "metadata"]),
    ],
)
def test_maps_are_aligned_wherever_the_parameter_is(
    structure: type[ctypes.Structure], file: str, maps: list[str]
) -> None:
    name = structure.__name__
    arrays = [field for field, of, *_ in structure._fields_ if issubclass(of, ctypes.Array)]
    assert [field for field in arrays if field != "unused"] == maps
    assert ctypes.sizeof(structure) % 64 == 0
    conditions = {
        "alignment of the parameter": f"alignof({name}) == 64",
        "alignment of a map": "alignof(TensorMap) == 64",
        **{f"place of {each}": f"__builtin_offsetof({name}, {each}) % 64 == 0" for each in maps},
    }
    assert refuted(file, conditions) == []
    assert all(getattr(structure, each).size == 128 for each in maps)


@pytest.mark.parametrize("name", ENUMS)
def test_numbers_mean_the_same_on_both_sides(name: str) -> None:
    source, file, values = ENUMS[name]
    assert source in needed(file)
    listed = re.search(rf"enum {name} : s32 {{([^}}]*)}}", shipped()[source])
    assert listed is not None
    assert {each.split("=")[0].strip() for each in listed[1].split(",")} == set(values)
    assert refuted(file, {each: f"{each} == {value}" for each, value in values.items()}) == []
    assert refuted(file, {each: f"{each} != {value}" for each, value in values.items()}) == list(values)
    assert len(set(values.values())) == len(values)


def test_every_number_of_python_is_compared() -> None:
    counts = {"Dtype": len(DTYPES), "Activation": len(ACTIVATIONS), "Norm": len(NORMS), "Part": len(endings.PARTS)}
    assert {name: len(ENUMS[name][2]) for name in counts} == counts


def test_parts_are_bits() -> None:
    assert sum(endings.PARTS.values()) == 2 ** len(endings.PARTS) - 1
    assert all(value & (value - 1) == 0 for value in endings.PARTS.values())


def test_scales_lie_in_blocks_of_the_same_size() -> None:
    assert refuted("sm90_gemm.cuh", {"SCALE_BLOCK": f"SCALE_BLOCK == {SCALE_BLOCK}"}) == []
    assert refuted("mma_gemm.cuh", {"SCALE_BLOCK": f"SCALE_BLOCK == {SCALE_BLOCK}"}) == []
