"""A kernel is its file and the headers it reaches; anything else it includes is an error."""

from pathlib import Path

import pytest

from quant.kernels.runtime import wgmma
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


def test_what_is_shipped_is_what_the_folder_holds_and_the_wrappers_of_wgmma() -> None:
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(FOLDER.iterdir())
        if path.suffix in (".cu", ".cuh")
    }
    made = wgmma.headers()
    assert not set(made) & set(files)
    assert dict(shipped()) == {**files, **made}
    assert "ptx.cuh" in shipped()


def test_what_is_shipped_cannot_be_changed() -> None:
    assert shipped() is shipped()
    with pytest.raises(TypeError):
        shipped()["ptx.cuh"] = ""  # type: ignore[index]


@pytest.mark.parametrize("header", wgmma.headers())
def test_only_kernels_of_hopper_are_made_with_wgmma(header: str) -> None:
    """Its text is part of the key of what is compiled: others need not be compiled anew when it changes."""
    with_it = {name for name in shipped() if name.endswith(".cu") and header in needed(name)}
    assert all(name.startswith("sm90_") for name in with_it)
    assert set(needed(header)) == {header, "ptx.cuh"}


def test_the_dense_kernels_of_hopper_are_made_without_the_other_wrappers() -> None:
    for name in ("sm90_int8_gemm.cu", "sm90_fp8_gemm.cu"):
        assert set(needed(name)) & set(wgmma.headers()) == {wgmma.DENSE}


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
