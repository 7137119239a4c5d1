"""Tuning adds what it measured to a table that is used from then on, and refuses in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import quant
from quant.api.tune import Size, layer_sizes, tune
from quant.errors import KernelChoiceError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.kernels import compiled, tile_tables, tuning
from quant.kernels.matmuls import mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_gemm import TILES
from quant.kernels.matmuls.table import matmuls
from quant.kernels.runtime import availability, cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.tile_tables import Entry
from tests.tiny_pipeline import FFN, TEXT, WIDTH, transformer

INT8, FP8 = LayerFormat(SCHEMES["W8A8"]), LayerFormat(SCHEMES["FP8_DYNAMIC"])
W4A16, W4A8, W4AFP8, W8A16 = (LayerFormat(SCHEMES[name]) for name in ("W4A16", "W4A8", "W4AFP8", "W8A16"))
SPARSE_INT8, SPARSE_FP8, SPARSE = (
    LayerFormat(SCHEMES[name], sparse=True) for name in ("W8A8", "FP8_DYNAMIC", "UNQUANTIZED")
)
NAMES = {INT8: "sm80_int8_gemm", FP8: "sm89_fp8_gemm"}
SMALL, LARGE = TILES[-1], TILES[3]


class Machine(SimpleNamespace):
    """A GPU that can be set: its architecture, its name, and the tile that is fastest on it."""

    arch: str
    gpu: str
    best: Tile


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    found = Machine(arch="sm_80", gpu="NVIDIA A100", best=SMALL)

    def timer(device: torch.device) -> Callable[[tuning.Size, Tile], float]:
        return lambda size, tile: 1e-3 if tile == found.best else 2e-3

    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(availability, "reason", lambda device: None)
    monkeypatch.setattr(cupy_launch, "device_index", lambda device: 0)
    monkeypatch.setattr(cupy_launch, "device_architecture", lambda index: ARCHITECTURES[found.arch])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: found.gpu)
    monkeypatch.setattr(tuning, "gpu_timer", timer)
    tile_tables.load.cache_clear()
    compiled.forget_tiles()
    yield found
    tile_tables.load.cache_clear()
    compiled.forget_tiles()


def table(arch: str = "sm_80") -> tile_tables.Table:
    (found,) = tile_tables.load(arch)
    return found


#: Of a model too small for groups of 128, and with a name that no table of schemes has.
W4A16_G32 = LayerFormat(
    Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}})
)


@pytest.mark.parametrize(
    "layer_format", [INT8, FP8, W4A16_G32, SPARSE_INT8, SPARSE], ids=lambda layer_format: layer_format.label
)
def test_the_sizes_of_a_checkpoint_are_its_distinct_layers(tmp_path: Path, layer_format: LayerFormat) -> None:
    scheme = {key: part for key, part in layer_format.scheme.to_dict().items() if key != "format"}
    group = {"targets": ["Linear"], **({"scheme": scheme} if scheme else {})}
    if layer_format.sparse:
        group["sparsity"] = {"structure": "2:4", "method": "magnitude"}
    recipe = quant.Recipe.from_dict({"version": 1, "summary": "x", "groups": [group]})
    quant.save(quant.quantize(transformer(), recipe), tmp_path / "out")
    shapes = [(WIDTH, WIDTH), (FFN, WIDTH), (WIDTH, FFN)]
    expected = {(layer_format, m, n, k) for n, k in shapes for m in (77, 4096)}
    found = layer_sizes(tmp_path / "out", [77, 4096])
    assert set(found) == expected
    assert len(found) == len(expected)


def test_a_factor_of_the_input_makes_no_other_matmul(tmp_path: Path) -> None:
    inputs = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4).bfloat16(),
        "timestep": torch.ones(1),
        "encoder_hidden_states": torch.randn(1, 8, TEXT).bfloat16(),
    }
    quant.save(quant.quantize(transformer(), "w8a8", forward_loop=lambda model: model(**inputs)), tmp_path / "out")
    layers = [layer for component in quant.inspect(tmp_path / "out").components for layer in component.layers]
    assert any(layer.layer_format is not None and layer.layer_format.smoothed for layer in layers)
    assert {size.layer_format for size in layer_sizes(tmp_path / "out", [77])} == {INT8}


def test_what_was_measured_is_used_from_then_on(machine: Machine, tmp_path: Path) -> None:
    said: list[tuning.Size] = []
    assert tile_tables.load("sm_80") == ()
    sizes = [Size(INT8, 77, 64, 128), Size(INT8, 500, 64, 128), Size(INT8, 77, 64, 128)]
    path = tune(sizes, on_size=lambda size, times: said.append(size))
    assert path == tile_tables.user_table("sm_80")
    assert path.is_relative_to(tmp_path / "cache")
    assert said == [tuning.Size(NAMES[INT8], 77, 64, 128), tuning.Size(NAMES[INT8], 500, 64, 128)]
    here = ARCHITECTURES["sm_80"]
    choice = tile_tables.choose(NAMES[INT8], 100, 64, 128, here, 108)
    assert choice == (SMALL, "measured on NVIDIA A100")


def test_new_entries_replace_old_ones_of_the_same_size_and_no_others(machine: Machine) -> None:
    tune([Size(INT8, 77, 64, 128), Size(INT8, 1, 64, 128)])
    machine.best = LARGE
    tune([Size(INT8, 77, 64, 128), Size(INT8, 77, 640, 128)])
    assert table().entries == (
        Entry(NAMES[INT8], 1, 64, 128, SMALL),
        Entry(NAMES[INT8], 77, 64, 128, LARGE),
        Entry(NAMES[INT8], 77, 640, 128, LARGE),
    )


def test_a_table_of_another_gpu_is_left_as_it_was(machine: Machine, tmp_path: Path) -> None:
    path = tune([Size(INT8, 77, 64, 128)])
    before = path.read_text()
    machine.gpu, machine.best = "NVIDIA A30", LARGE
    measured: list[object] = []
    with pytest.raises(KernelChoiceError, match=f"{path}: was measured on NVIDIA A100, not on NVIDIA A30"):
        tune([Size(INT8, 77, 64, 128)], on_size=lambda size, times: measured.append(size))
    assert measured == []
    assert path.read_text() == before
    assert tune([Size(INT8, 77, 64, 128)], tmp_path / "new" / "a30.json") == tmp_path / "new" / "a30.json"
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["a30.json"]


def test_a_size_that_runs_by_another_implementation_is_left_out(machine: Machine) -> None:
    said: list[Size] = []
    sizes = [Size(FP8, 77, 64, 128), Size(INT8, 77, 64, 128), Size(INT8, 1, 64, 200_000)]
    tune(sizes, left_out=said.append)
    assert said == [sizes[0], sizes[2]]
    assert [entry.kernel for entry in table().entries] == [NAMES[INT8]]
    with pytest.raises(KernelChoiceError, match="none of these sizes runs by a kernel with tiles on sm_80"):
        tune([Size(FP8, 77, 64, 128)])
    machine.arch, machine.gpu = "sm_89", "RTX 4090"
    tune([Size(FP8, 77, 64, 128), Size(INT8, 77, 64, 128)])
    assert [entry.kernel for entry in table("sm_89").entries] == [NAMES[INT8], NAMES[FP8]]


def test_hopper_tunes_its_own_kernels_and_their_tiles(machine: Machine) -> None:
    machine.arch, machine.gpu, machine.best = "sm_90a", "NVIDIA H100", sm90_gemm.TILES[-1]
    said: list[tuple[tuning.Size, list[Tile]]] = []
    tune(
        [Size(FP8, 77, 64, 128), Size(INT8, 77, 64, 128)], on_size=lambda size, times: said.append((size, list(times)))
    )
    names = ["sm90_fp8_gemm", "sm90_int8_gemm"]
    here = ARCHITECTURES["sm_90a"]
    assert said == [(tuning.Size(name, 77, 64, 128), matmuls()[name].tiles(here)) for name in names]
    expected = [Entry(name, 77, 64, 128, machine.best) for name in names]
    assert list(table("sm_90a").entries) == sorted(expected)
    for name in names:
        assert tile_tables.choose(name, 70, 64, 128, here, 132) == (machine.best, "measured on NVIDIA H100")
    # Of the kernel that it has from Ampere, nothing was measured.
    assert tile_tables.choose(NAMES[INT8], 70, 64, 128, here, 132).source == "rule"


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        (
            "sm_80",
            {
                (W4A16, 500): "sm80_w4a16_gemm",
                (W4A8, 500): "sm80_w4a8_gemm",
                (SPARSE_INT8, 500): "sm80_sparse_int8_gemm",
                (SPARSE, 500): "sm80_sparse_16bit_gemm",
            },
        ),
        (
            "sm_90a",
            {
                (W4A16, 500): "sm90_w4a16_gemm",
                (W4A16, 16): "sm80_w4a16_gemm",
                (W4A8, 500): "sm90_w4a8_gemm",
                (W4AFP8, 500): "sm90_w4afp8_gemm",
                (SPARSE_INT8, 16): "sm90_sparse_int8_gemm",
                (SPARSE_FP8, 500): "sm90_sparse_fp8_gemm",
                (SPARSE, 500): "sm90_sparse_16bit_gemm",
            },
        ),
    ],
)
def test_packed_and_sparse_layers_tune_the_kernels_they_run_by(
    machine: Machine, arch: str, names: dict[tuple[LayerFormat, int], str]
) -> None:
    machine.arch = arch
    asked: list[tuple[tuning.Size, list[Tile]]] = []
    sizes = [Size(layer_format, m, 64, 256) for layer_format, m in names]
    tune(sizes, on_size=lambda size, times: asked.append((size, list(times))))
    here = ARCHITECTURES[arch]
    assert asked == [(tuning.Size(name, m, 64, 256), matmuls()[name].tiles(here)) for (_, m), name in names.items()]
    assert {type(entry.tile) for entry in table(arch).entries} <= {
        mma_packed.PackedTile,
        sm90_packed.HopperPackedTile,
    }
    machine.best = asked[0][1][-1]
    tune(sizes[:1])
    name, m = asked[0][0].kernel, asked[0][0].m
    assert tile_tables.choose(name, m - 1, 64, 256, here, 132) == (machine.best, f"measured on {machine.gpu}")


def test_layers_of_one_kernel_are_measured_once_and_others_are_left_out(machine: Machine) -> None:
    said: list[Size] = []
    asked: list[tuning.Size] = []
    zeros, groups = LayerFormat(SCHEMES["W4A16_ASYM"]), LayerFormat(SCHEMES["FP8_BLOCK"])
    sizes = [Size(layer_format, 77, 64, 256) for layer_format in (W4A16, W8A16, zeros, groups, W4AFP8, SPARSE_FP8)]
    tune(sizes, on_size=lambda size, times: asked.append(size), left_out=said.append)
    assert asked == [tuning.Size("sm80_w4a16_gemm", 77, 64, 256)]
    assert said == [sizes[1], *sizes[3:]]


def test_a_table_keeps_what_was_measured_of_kernels_with_other_tiles(machine: Machine) -> None:
    machine.arch, machine.gpu, machine.best = "sm_90a", "NVIDIA H100", sm90_gemm.TILES[-1]
    path = tile_tables.user_table("sm_90a")
    path.parent.mkdir(parents=True)
    before = Entry(NAMES[INT8], 77, 64, 128, SMALL)
    path.write_text(json.dumps(tile_tables.to_json(tile_tables.Table(machine.gpu, (before,)))))
    tune([Size(INT8, 77, 64, 128)])
    assert table("sm_90a").entries == (before, Entry("sm90_int8_gemm", 77, 64, 128, machine.best))


def test_a_tile_that_was_measured_is_used_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are remembered for each size; a new table makes that forgotten."""
    properties = SimpleNamespace(multi_processor_count=108)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    asked = (matmuls()[NAMES[INT8]], 77, 64, 128, False)
    assert compiled._gpu(0).tile(*asked) != LARGE
    machine.best = LARGE
    tune([Size(INT8, 77, 64, 128)])
    assert compiled._gpu(0).tile(*asked) == LARGE


def test_without_a_gpu_nothing_is_measured(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "reason", lambda device: "torch sees no CUDA device")
    with pytest.raises(KernelChoiceError, match="tuning measures on a GPU, and torch sees no CUDA device"):
        tune([Size(INT8, 77, 64, 128)])
    assert not tile_tables.user_table("sm_80").exists()
