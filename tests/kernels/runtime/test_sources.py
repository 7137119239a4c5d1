"""A kernel is its file and the headers it reaches; anything else it includes is an error."""

from pathlib import Path

import pytest

from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.sources import needed, shipped

FOLDER = Path(__file__).resolve().parents[3] / "kernels" / "cuda"
TEXTS = {
    "k.cu": '#include "b.cuh"\n  #  include "a.cuh"  // why\n// #include "nowhere.cuh"\n',
    "a.cuh": "a",
    "b.cuh": '#pragma once\n#include "c.cuh"\n#include "a.cuh"\n',
    "c.cuh": '#include "b.cuh"\n',
    "d.cuh": "nobody's",
}


def test_what_is_shipped_is_what_the_folder_holds() -> None:
    assert dict(shipped()) == {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.iterdir())
        if path.suffix in (".cu", ".cuh")
    }
    assert "ptx.cuh" in shipped()


def test_headers_are_followed_through_headers_and_circles() -> None:
    found = needed("k.cu", TEXTS)
    assert next(iter(found)) == "k.cu"
    assert found == {name: TEXTS[name] for name in ("k.cu", "a.cuh", "b.cuh", "c.cuh")}


@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith(".cu")])
def test_every_shipped_kernel_is_complete(name: str) -> None:
    assert needed(name)[name] == shipped()[name]


@pytest.mark.parametrize("target", ['"e.cuh"', "<cuda_fp16.h>", "<a.cuh>", "MACRO", '"./a.cuh"'])
def test_an_include_of_anything_else(target: str) -> None:
    texts = {**TEXTS, "a.cuh": f"#include {target}\n"}
    with pytest.raises(KernelError) as caught:
        needed("k.cu", texts)
    assert str(caught.value) == f"a.cuh includes {target}, which is no header of kernels/cuda in quotes"


def test_a_kernel_there_is_not() -> None:
    with pytest.raises(KernelError, match=r"^no CUDA source x\.cu; there are k\.cu, a\.cuh"):
        needed("x.cu", TEXTS)
