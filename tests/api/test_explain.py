"""What is explained is what `dispatch` and the tile tables choose, on this machine and for any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quant.api.explain import (
    Explanation,
    Option,
    explain,
    kernels_of_layer,
    missing_kernels,
    overview,
    require,
)
from quant.errors import KernelChoiceError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.kernels import dispatch, prepacking, tile_tables
from quant.kernels.matmuls import table
from quant.kernels.matmuls.mma_gemm import TILES
from quant.kernels.matmuls.table import KERNELS
from quant.kernels.prepacking import MANY_ROWS
from quant.kernels.runtime import availability
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.tile_tables import Entry, Table

W8A8, FP8 = LayerFormat(SCHEMES["W8A8"]), LayerFormat(SCHEMES["FP8_DYNAMIC"])
NO_CUPY = "CuPy cannot be imported"


@pytest.fixture(autouse=True)
def no_gpu_and_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same answers on every machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path))
    tile_tables.load.cache_clear()
    kernels_of_layer.cache_clear()
    yield
    tile_tables.load.cache_clear()


@pytest.fixture
def a100(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This machine has one, and everything to run kernels on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    properties = SimpleNamespace(multi_processor_count=108)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(availability, "reason", lambda device: None)
    return monkeypatch


def chosen(explained: tuple[Explanation, ...]) -> Option:
    """What the matmul runs by."""
    found = explained[1].chosen
    assert found is not None
    return found


def test_a_convolution_has_no_kernel_but_its_matmul_has() -> None:
    three, one = (replace(W8A8, kernel_size=(size, size)) for size in (3, 1))
    rows, convolution, matmul = explain(three, 4096, 320, 2880, arch="sm_90a")
    assert [each.op for each in (rows, convolution, matmul)] == ["quantize_rows", "scaled_conv", "scaled_mm"]
    assert convolution.chosen == Option("unfolded_matmuls", None)
    assert convolution.note == (
        f"no kernel runs scaled_conv of {W8A8.label} at this size on sm_90a: its windows are unfolded in memory, some "
        "at a time, and multiplied as the rows of a matmul"
    )
    assert matmul.note is None
    assert matmul == explain(W8A8, 4096, 320, 2880, arch="sm_90a")[-1]
    assert explain(one, 4096, 320, 320, arch="sm_90a") == explain(W8A8, 4096, 320, 320, arch="sm_90a")


def test_a_convolution_on_a_cpu() -> None:
    three = [replace(scheme, kernel_size=(3, 3)) for scheme in (W8A8, FP8)]
    names = [explain(scheme, 4096, 320, 2880)[-2].chosen for scheme in three]
    assert names == [Option("unfolded_matmuls", None), Option("float32_matmuls", None)]
    assert all(each.note is None for each in explain(three[1], 4096, 320, 2880))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("scheme", [W8A8, FP8], ids=["W8A8", "FP8_DYNAMIC"])
@pytest.mark.parametrize("size", [(1, 64, 64), (32_760, 5120, 5120), (77, 33, 77), (20, 64, 25_000)], ids=str)
def test_options_are_those_of_dispatch(scheme: LayerFormat, arch: str, size: tuple[int, int, int]) -> None:
    m, n, k = size
    found = explain(scheme, m, n, k, arch=arch)
    assert [each.op for each in found] == ["quantize_rows", "scaled_mm"]
    dtype = torch.int8 if scheme == W8A8 else torch.float8_e4m3fn
    for each in found:
        call = dispatch.Call(each.op, "cuda", dtype, m, n, k, capability=ARCHITECTURES[arch].capability)
        assert [(o.name, o.refusal) for o in each.options] == [(i.name, why) for i, why in dispatch.explain(call)]
        assert each.chosen is not None
        assert each.chosen.name == dispatch.choose(call).name


@pytest.mark.parametrize(
    ("scheme", "arch", "names"),
    [
        (W8A8, "sm_80", ("quantize_rows", "sm80_int8_gemm")),
        (W8A8, "sm_90a", ("quantize_rows", "sm90_int8_gemm")),
        (FP8, "sm_90a", ("quantize_rows", "sm90_fp8_gemm")),
        (FP8, "sm_89", ("quantize_rows", "sm89_fp8_gemm")),
        (FP8, "sm_80", ("quantize_rows", "reference")),
        (FP8, None, ("reference", "reference")),
        (W8A8, None, ("reference", "torch._int_mm")),
    ],
)
def test_what_runs_where(scheme: LayerFormat, arch: str | None, names: tuple[str, str]) -> None:
    found = explain(scheme, 4096, 1536, 1536, arch=arch)
    assert tuple(each.chosen.name for each in found if each.chosen) == names


@pytest.mark.parametrize(
    ("scheme", "arch", "names"),
    [
        (W8A8, "sm_80", ["sm80_int8_gemm"]),
        (FP8, "sm_89", ["sm89_fp8_gemm"]),
        (W8A8, "sm_90a", ["sm90_int8_gemm", "sm80_int8_gemm"]),
        (FP8, "sm_90a", ["sm90_fp8_gemm"]),
        (FP8, "sm_80", []),
    ],
)
def test_a_tile_and_the_number_of_its_blocks(scheme: LayerFormat, arch: str, names: list[str]) -> None:
    here = ARCHITECTURES[arch]
    (_, matmul) = explain(scheme, 1000, 500, 256, arch=arch)
    expected = {}
    for name in names:
        tile = tile_tables.choose(name, 1000, 500, 256, here, here.multiprocessors).tile
        blocks = len({(m // tile.m, n // tile.n) for m in range(1000) for n in range(500)})
        expected[name] = f"tile {tile}; {blocks} blocks (rule)"
    assert {option.name: option.tile for option in matmul.options if option.tile} == expected


def test_a_measured_tile_says_where() -> None:
    path = tile_tables.user_table("sm_80")
    path.parent.mkdir(parents=True)
    table = Table("my A100", (Entry("sm80_int8_gemm", 2000, 500, 256, TILES[3]),))
    path.write_text(json.dumps(tile_tables.to_json(table)))
    assert chosen(explain(W8A8, 1000, 500, 256, arch="sm_80")).tile.endswith("blocks (measured on my A100)")
    assert chosen(explain(W8A8, 1000, 500, 256, arch="sm_86")).tile.endswith("blocks (rule)")


def test_this_machine_has_a_gpu(a100: pytest.MonkeyPatch) -> None:
    assert explain(W8A8, 1000, 500, 256) == explain(W8A8, 1000, 500, 256, arch="sm_80")


def test_tiles_of_this_machine_are_for_its_own_multiprocessors(a100: pytest.MonkeyPatch) -> None:
    few = SimpleNamespace(multi_processor_count=1)
    a100.setattr(torch.cuda, "get_device_properties", lambda device: few)
    here = ARCHITECTURES["sm_80"]
    tile = tile_tables.choose("sm80_int8_gemm", 200, 500, 256, here, 1).tile
    assert tile != tile_tables.choose("sm80_int8_gemm", 200, 500, 256, here, 108).tile
    assert str(tile) in chosen(explain(W8A8, 200, 500, 256)).tile


def test_a_gpu_that_no_kernel_is_written_for(a100: pytest.MonkeyPatch) -> None:
    a100.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    a100.setattr(availability, "reason", lambda device: "sm_75 is not supported")
    rows, matmul = explain(W8A8, 1000, 512, 256)
    assert (rows.options[0].refusal or "").endswith("not on sm_75")
    assert matmul.chosen is not None
    assert matmul.chosen.name == "torch._int_mm"


def test_this_machine_has_a_gpu_but_lacks_a_package(a100: pytest.MonkeyPatch) -> None:
    a100.setattr(availability, "reason", lambda device: NO_CUPY)
    rows, matmul = explain(W8A8, 1000, 512, 256)
    refusals = {option.name: option.refusal for option in (*rows.options, *matmul.options)}
    assert refusals["quantize_rows"] == refusals["sm80_int8_gemm"] == NO_CUPY
    assert [each.chosen.name for each in (rows, matmul) if each.chosen] == ["reference", "torch._int_mm"]
    # About another GPU it says what that one would do.
    assert explain(W8A8, 1000, 512, 256, arch="sm_89")[0].options[0].refusal is None


def test_a_sum_that_no_format_holds_runs_nowhere() -> None:
    found = explain(W8A8, 1000, 512, 133_145, arch="sm_80")[1]
    assert found.chosen is None
    assert found.to_dict()["chosen"] is None
    assert kernels_of_layer(W8A8, 512, 133_145) == dict.fromkeys(ARCHITECTURES, "none")


def test_plain_data() -> None:
    (rows, _) = explain(W8A8, 4, 64, 64, arch="sm_80")
    assert json.loads(json.dumps(rows.to_dict())) == {
        "op": "quantize_rows",
        "chosen": "quantize_rows",
        "options": [
            {"name": "quantize_rows", "refusal": None, "tile": ""},
            {"name": "reference", "refusal": None, "tile": ""},
        ],
        "note": None,
    }


def test_what_no_kernel_runs_is_noted() -> None:
    rows, matmul = explain(FP8, 4, 64, 64, arch="sm_80")
    reads = "no kernel runs scaled_mm of FP8_DYNAMIC at this size on sm_80: the reference does, in torch's operations"
    assert (rows.note, matmul.note) == (None, reads)
    layers = [(FP8, 4, 64, 64), (FP8, 8, 64, 128), (W8A8, 4, 64, 64)]
    assert missing_kernels(layers, "sm_80") == [reads]
    assert missing_kernels(layers, "sm_89") == []
    large = missing_kernels([(W8A8, 4, 64, 133_145)], "sm_80")
    assert large[-1] == "nothing runs scaled_mm of W8A8 at this size on sm_80"
    (packed,) = explain(LayerFormat(SCHEMES["W8A16"]), 4, 128, 128, arch="sm_90a")
    assert packed.chosen is not None and packed.chosen.name == "reference" and packed.note is not None
    (here,) = explain(LayerFormat(SCHEMES["W8A16"]), 4, 128, 128)
    assert here.note is None  # the references are what a CPU has


def test_the_kernel_of_a_layer_on_each_architecture() -> None:
    int8, fp8 = (kernels_of_layer(scheme, 1536, 1536) for scheme in (W8A8, FP8))
    assert int8 == {**dict.fromkeys(ARCHITECTURES, "sm80_int8_gemm"), "sm_90a": "sm90_int8_gemm"}
    assert fp8 == {
        **dict.fromkeys(ARCHITECTURES, "reference"),
        "sm_89": "sm89_fp8_gemm",
        "sm_90a": "sm90_fp8_gemm",
    }


def test_the_overview_has_a_row_for_each_compiled_kernel(a100: pytest.MonkeyPatch) -> None:
    says, rows = overview()
    assert says == "NVIDIA A100 runs them"
    compiled = {each.name: each.limits[0] for each in dispatch.implementations() if each.compiled}
    assert [name for name, *_ in rows] == [kernel.name for kernel in KERNELS]
    assert {name for name, *_ in rows} == set(compiled)
    for name, _, dtypes, *runs in rows:
        here = [each.capability in compiled[name].capabilities for each in ARCHITECTURES.values()]
        assert [cell == "yes" for cell in runs] == here
        assert len(dtypes.split(", ")) == len(compiled[name].dtypes or (torch.int8, torch.float8_e4m3fn))
    found = {name: dtypes for name, _, dtypes, *_ in rows}
    assert (found["quantize_rows"], found["sm90_fp8_gemm"]) == ("INT8, FP8", "FP8")
    assert found["sm80_w4a16_gemm"] == found["sm90_sparse_16bit_gemm"] == "bf16, fp16"
    a100.setattr(availability, "reason", lambda device: NO_CUPY)
    assert overview()[0] == f"NVIDIA A100 runs none of them: {NO_CUPY}"


def test_the_overview_of_a_kernel_of_several_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    several = replace(KERNELS[0], dtypes=(torch.float16, torch.int8, torch.bfloat16, torch.float32))
    monkeypatch.setattr(table, "KERNELS", (several, *KERNELS[1:]))
    assert overview()[1][0][2] == "INT8, bf16, fp16, fp32"


def test_the_overview_without_a_gpu() -> None:
    assert overview()[0] == "this machine runs none of them: torch sees no CUDA device"


def test_a_kernel_that_is_required_runs_or_the_reason_is_raised() -> None:
    found = explain(W8A8, 1000, 512, 256, arch="sm_80")
    for name in ("sm80_int8_gemm", "torch._int_mm", "quantize_rows", "reference"):
        require(found, name)
    with pytest.raises(KernelChoiceError, match="sm89_fp8_gemm cannot run this: takes float8_e4m3fn, not int8"):
        require(found, "sm89_fp8_gemm")
    with pytest.raises(KernelChoiceError, match="sm90_int8_gemm cannot run this: runs on sm_90, not on sm_80"):
        require(found, "sm90_int8_gemm")
    require(explain(W8A8, 1000, 512, 256, arch="sm_90a"), "sm90_int8_gemm")
    with pytest.raises(KernelChoiceError, match="no kernel is called 'gemm'; there are quantize_rows, "):
        require(found, "gemm")


@pytest.mark.parametrize(
    ("layer_format", "ops", "matmuls"),
    [
        (LayerFormat(SCHEMES["W4A16"]), ("int4_mm",), (*("sm80_w4a16_gemm",) * 3, "sm90_w4a16_gemm")),
        (LayerFormat(SCHEMES["W4A16_ASYM"]), ("int4_mm",), (*("sm80_w4a16_gemm",) * 3, "sm90_w4a16_gemm")),
        (LayerFormat(SCHEMES["W4A8"]), ("quantize_rows", "int4_mm"), (*("sm80_w4a8_gemm",) * 3, "sm90_w4a8_gemm")),
        (
            LayerFormat(SCHEMES["W4AFP8"]),
            ("quantize_rows", "int4_mm"),
            ("reference", "reference", "sm89_w4afp8_gemm", "sm90_w4afp8_gemm"),
        ),
        (LayerFormat(SCHEMES["W8A16"]), ("int8_mm",), ("reference",) * 4),
        (
            LayerFormat(SCHEMES["UNQUANTIZED"], sparse=True),
            ("sparse_scaled_mm",),
            (*("sm80_sparse_16bit_gemm",) * 3, "sm90_sparse_16bit_gemm"),
        ),
        (
            LayerFormat(SCHEMES["W8A8"], sparse=True),
            ("quantize_rows", "sparse_scaled_mm"),
            (*("sm80_sparse_int8_gemm",) * 3, "sm90_sparse_int8_gemm"),
        ),
        (
            LayerFormat(SCHEMES["FP8_BLOCK"]),
            ("quantize_rows", "scaled_mm"),
            ("reference", "reference", "sm89_fp8_gemm", "sm90_fp8_gemm"),
        ),
    ],
    ids=lambda value: value.label if isinstance(value, LayerFormat) else "",
)
def test_each_format_runs_by_its_ops(layer_format: LayerFormat, ops: tuple[str, ...], matmuls: tuple[str, ...]) -> None:
    assert tuple(each.op for each in explain(layer_format, 4096, 1536, 1536, arch="sm_90a")) == ops
    assert tuple(kernels_of_layer(layer_format, 1536, 1536).values()) == matmuls


@pytest.mark.parametrize("arch", [*ARCHITECTURES, None])
@pytest.mark.parametrize("m", [1, 4096])
def test_no_implementation_is_refused_for_the_order_of_a_weight(m: int, arch: str | None) -> None:
    """A layer is packed for the kernel that runs it."""
    layer_formats = [LayerFormat(scheme) for scheme in SCHEMES.values() if scheme.weights is not None]
    sparse = [LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8_DYNAMIC")]
    for layer_format in (*layer_formats, *sparse):
        options = [option for each in explain(layer_format, m, 1536, 1536, arch=arch) for option in each.options]
        assert not [option for option in options if "order" in (option.refusal or "")]
        # Scales of 4-bit weights are bfloat16, as a model that runs in it needs them.
        assert not [option for option in options if "scales of the weight of" in (option.refusal or "")]


def test_a_layer_is_packed_for_the_kernel_that_is_named(a100: pytest.MonkeyPatch) -> None:
    cases = (
        (LayerFormat(SCHEMES["W4A8"]), torch.int8, 128),
        (LayerFormat(SCHEMES["W8A8"], sparse=True), torch.int8, 0),
    )
    for layer_format, dtype, group in cases:
        matmul = explain(layer_format, MANY_ROWS, 1536, 1536)[-1]
        assert matmul.chosen is not None
        (kernel,) = (each for each in dispatch.implementations() if each.name == matmul.chosen.name)
        assert kernel.compiled
        layout = prepacking.wanted(matmul.op, dtype, 1536, 1536, "cuda", group)
        assert layout in kernel.limits[0].layouts


def test_inputs_by_group_are_quantized_by_the_reference() -> None:
    rows = explain(LayerFormat(SCHEMES["FP8_BLOCK"]), 4096, 1536, 1536, arch="sm_90a")[0]
    refusals = {option.name: option.refusal for option in rows.options}
    assert refusals["quantize_rows"] == "finds one scale a row, not one for each 128 of K"
    assert rows.chosen is not None and rows.chosen.name == "reference"
