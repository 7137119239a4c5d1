"""The structures that Python fills, against those that a C++ compiler lays out from the CUDA sources."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest
import torch

from quant.kernels.host.structures import ACTIVATIONS, DTYPES, NORMS, Epilogue, GemmArguments, QuantizeArguments, Rows
from quant.kernels.runtime.sources import needed, shipped
from tests.emulator.build import runtime

EMULATOR = Path(__file__).parents[2] / "emulator"
#: What must be defined to compile each file; no structure depends on the values.
FILES: dict[str, str] = {
    "mma_gemm.cuh": "TILE_M=64 TILE_N=64 TILE_K=64 WARP_M=32 WARP_N=32 STAGES=2 OUT=0 ACTIVATE=0 BLOCK_SCALES=0",
    "quantize_rows.cu": "CODES=3 NORM=0 THREADS=32 ROWS=4 CHUNKS=1",
}
STRUCTURES: list[tuple[type[ctypes.Structure], str]] = [
    (Rows, "mma_gemm.cuh"),
    (Epilogue, "mma_gemm.cuh"),
    (GemmArguments, "mma_gemm.cuh"),
    (QuantizeArguments, "quantize_rows.cu"),
]
KINDS = {ctypes.c_void_p: "pointer", ctypes.c_int32: "integer", ctypes.c_int64: "integer", ctypes.c_float: "float"}
ENUMS: list[tuple[str, str, dict[str, int]]] = [
    (
        "numbers.cuh",
        "Dtype",
        {
            "BF16": DTYPES[torch.bfloat16],
            "F16": DTYPES[torch.float16],
            "F32": DTYPES[torch.float32],
            "S8": DTYPES[torch.int8],
            "E4M3": DTYPES[torch.float8_e4m3fn],
        },
    ),
    ("epilogue.cuh", "Activation", {name.upper(): value for name, value in ACTIVATIONS.items()}),
    (
        "quantize_rows.cu",
        "Norm",
        {"NO_NORM": NORMS["none"], "LAYER_NORM": NORMS["layer"], "RMS_NORM": NORMS["rms"]},
    ),
]
KIND_OF = """
#include <cstddef>
#include <cstdio>
#include <type_traits>
template <class T> const char* kind() {
  return std::is_pointer_v<T> ? "pointer" : std::is_integral_v<T> ? "integer" : std::is_class_v<T> ? "class" : "float";
}
"""


def enumerators(file: str, name: str) -> list[str]:
    found = re.search(rf"enum {name} : s32 {{([^}}]*)}}", shipped()[file])
    assert found is not None
    return [each.split("=")[0].strip() for each in found[1].split(",")]


def program(file: str) -> str:
    """Prints a line for each structure, field and enumerator of a file; refuses a field that Python has not."""
    printed, counted = [], []
    for structure, of in STRUCTURES:
        if of == file:
            name = structure.__name__
            printed.append(f'  printf("{name} %zu\\n", sizeof({name}));')
            for field, *_ in structure._fields_:
                place = f"offsetof({name}, {field}), sizeof({name}::{field}), kind<decltype({name}::{field})>()"
                printed.append(f'  printf("{name}.{field} %zu %zu %s\\n", {place});')
            # A structured binding needs a name for every field, no more and no less.
            names = ", ".join(f"f{index}" for index in range(len(structure._fields_)))
            counted.append(f"void count({name}& all) {{ auto& [{names}] = all; }}")
    for of, enum, _ in ENUMS:
        if of in needed(file):
            printed.extend(f'  printf("{each} %d\\n", {each});' for each in enumerators(of, enum))
    return "\n".join(['#include "cuda.h"', f'#include "{file}"', KIND_OF, *counted, "int main() {", *printed, "}\n"])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name to what g++ makes of it, of both files; where they share a header, it says the same."""
    found: dict[str, str] = {}
    for file, macros in FILES.items():
        folder = tmp_path_factory.mktemp("layout")
        for name, text in needed(file).items():
            if name != "ptx.cuh":  # the emulator's comes instead
                (folder / name).write_text(text)
        (folder / "main.cpp").write_text(program(file))
        defines = [f"-D{macro}" for macro in ("ARCH=890", *macros.split())]
        subprocess.run(
            ["g++", "-std=c++17", "-w", *defines, f"-I{EMULATOR}", "main.cpp", str(runtime()), "-o", "main",
             f"-Wl,-rpath,{runtime().parent}"],
            cwd=folder, check=True,
        )  # fmt: skip
        for line in subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout.splitlines():
            name, what = line.split(" ", 1)
            assert found.setdefault(name, what) == what
    return found


@pytest.mark.parametrize(("structure", "file"), STRUCTURES)
def test_every_field_lies_where_the_compiler_puts_it(
    compiled: dict[str, str], structure: type[ctypes.Structure], file: str
) -> None:
    name = structure.__name__
    expected = {name: str(ctypes.sizeof(structure))}
    for field, of, *_ in structure._fields_:
        place = getattr(structure, field)
        expected[f"{name}.{field}"] = f"{place.offset} {place.size} {KINDS.get(of, 'class')}"
    assert {key: what for key, what in compiled.items() if key.split(".")[0] == name} == expected


@pytest.mark.parametrize(("file", "name", "values"), ENUMS, ids=lambda value: value if isinstance(value, str) else "")
def test_numbers_mean_the_same_on_both_sides(
    compiled: dict[str, str], file: str, name: str, values: dict[str, int]
) -> None:
    assert {each: int(compiled[each]) for each in enumerators(file, name)} == values
    assert len(set(values.values())) == len(values)
    assert len(values) == {"Dtype": len(DTYPES), "Activation": len(ACTIVATIONS), "Norm": len(NORMS)}[name]
