"""Tuning adds what it measured to a table that is used from then on, and refuses in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import quant
from quant.errors import KernelChoiceError
from quant.kernels import compiled, hopper_tiles, tile_tables, tuning
from quant.kernels.runtime import availability, cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.tile_tables import AnyTile, Entry
from quant.kernels.tiles import TILES
from quant.workflows.tuning_kernels import layer_sizes, tune
from tests.tiny_pipeline import FFN, TEXT, WIDTH, transformer

INT8, FP8 = torch.int8, torch.float8_e4m3fn
NAMES = {INT8: "sm80_int8_gemm", FP8: "sm89_fp8_gemm"}
SMALL, LARGE = TILES[-1], TILES[3]


class Machine(SimpleNamespace):
    """A GPU that can be set: its architecture, its name, and the tile that is fastest on it."""

    arch: str
    gpu: str
    best: AnyTile


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    found = Machine(arch="sm_80", gpu="NVIDIA A100", best=SMALL)

    def timer(device: torch.device) -> Callable[[tuning.Size, AnyTile], float]:
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


@pytest.mark.parametrize(("recipe", "dtype"), [("w8a8", INT8), ("fp8-dynamic", FP8)])
def test_the_sizes_of_a_checkpoint_are_its_distinct_layers(tmp_path: Path, recipe: str, dtype: torch.dtype) -> None:
    inputs = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4).bfloat16(),
        "timestep": torch.ones(1),
        "encoder_hidden_states": torch.randn(1, 8, TEXT).bfloat16(),
    }
    quant.save(quant.quantize(transformer(), recipe, forward_loop=lambda model: model(**inputs)), tmp_path / "out")
    shapes = [(WIDTH, WIDTH), (FFN, WIDTH), (WIDTH, FFN)]
    expected = {(dtype, m, n, k) for n, k in shapes for m in (77, 4096)}
    found = layer_sizes(tmp_path / "out", [77, 4096])
    assert set(found) == expected
    assert len(found) == len(expected)


def test_what_was_measured_is_used_from_then_on(machine: Machine, tmp_path: Path) -> None:
    said: list[tuning.Size] = []
    assert tile_tables.load("sm_80") == ()
    sizes = [(INT8, 77, 64, 128), (INT8, 500, 64, 128), (INT8, 77, 64, 128)]
    path = tune(sizes, told=lambda size, times: said.append(size))
    assert path == tile_tables.user_table("sm_80")
    assert path.is_relative_to(tmp_path / "cache")
    assert said == [tuning.Size(NAMES[INT8], 77, 64, 128), tuning.Size(NAMES[INT8], 500, 64, 128)]
    here = ARCHITECTURES["sm_80"]
    choice = tile_tables.choose(NAMES[INT8], 100, 64, 128, here, 108)
    assert choice == (SMALL, "measured on NVIDIA A100")


def test_new_entries_replace_old_ones_of_the_same_size_and_no_others(machine: Machine) -> None:
    tune([(INT8, 77, 64, 128), (INT8, 1, 64, 128)])
    machine.best = LARGE
    tune([(INT8, 77, 64, 128), (INT8, 77, 640, 128)])
    assert table().entries == (
        Entry(NAMES[INT8], 1, 64, 128, SMALL),
        Entry(NAMES[INT8], 77, 64, 128, LARGE),
        Entry(NAMES[INT8], 77, 640, 128, LARGE),
    )


def test_a_table_of_another_gpu_is_left_as_it_was(machine: Machine, tmp_path: Path) -> None:
    path = tune([(INT8, 77, 64, 128)])
    before = path.read_text()
    machine.gpu, machine.best = "NVIDIA A30", LARGE
    measured: list[object] = []
    with pytest.raises(KernelChoiceError, match=f"{path}: was measured on NVIDIA A100, not on NVIDIA A30"):
        tune([(INT8, 77, 64, 128)], told=lambda size, times: measured.append(size))
    assert measured == []
    assert path.read_text() == before
    assert tune([(INT8, 77, 64, 128)], tmp_path / "new" / "a30.json") == tmp_path / "new" / "a30.json"
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["a30.json"]


def test_a_size_that_runs_by_another_implementation_is_left_out(machine: Machine) -> None:
    said: list[tuple[object, ...]] = []
    sizes = [(FP8, 77, 64, 128), (INT8, 77, 64, 128), (INT8, 1, 64, 200_000)]
    tune(sizes, left_out=lambda *size: said.append(size))
    assert said == [sizes[0], sizes[2]]
    assert [entry.kernel for entry in table().entries] == [NAMES[INT8]]
    with pytest.raises(KernelChoiceError, match="none of these sizes runs by a kernel with tiles on sm_80"):
        tune([(FP8, 77, 64, 128)])
    machine.arch, machine.gpu = "sm_89", "RTX 4090"
    tune([(FP8, 77, 64, 128), (INT8, 77, 64, 128)])
    assert [entry.kernel for entry in table("sm_89").entries] == [NAMES[INT8], NAMES[FP8]]


def test_hopper_tunes_its_own_kernels_and_their_tiles(machine: Machine) -> None:
    machine.arch, machine.gpu, machine.best = "sm_90a", "NVIDIA H100", hopper_tiles.TILES[-1]
    said: list[tuple[tuning.Size, list[AnyTile]]] = []
    tune([(FP8, 77, 64, 128), (INT8, 77, 64, 128)], told=lambda size, times: said.append((size, list(times))))
    names = ["sm90_fp8_gemm", "sm90_int8_gemm"]
    here = ARCHITECTURES["sm_90a"]
    assert said == [(tuning.Size(name, 77, 64, 128), tile_tables.candidates(name, here)) for name in names]
    expected = [Entry(name, 77, 64, 128, machine.best) for name in names]
    assert list(table("sm_90a").entries) == sorted(expected)
    for name in names:
        assert tile_tables.choose(name, 70, 64, 128, here, 132) == (machine.best, "measured on NVIDIA H100")
    # Of the kernel that it has from Ampere, nothing was measured.
    assert tile_tables.choose(NAMES[INT8], 70, 64, 128, here, 132).source == "rule"


def test_a_table_keeps_what_was_measured_of_kernels_with_other_tiles(machine: Machine) -> None:
    machine.arch, machine.gpu, machine.best = "sm_90a", "NVIDIA H100", hopper_tiles.TILES[-1]
    path = tile_tables.user_table("sm_90a")
    path.parent.mkdir(parents=True)
    before = Entry(NAMES[INT8], 77, 64, 128, SMALL)
    path.write_text(json.dumps(tile_tables.to_json(tile_tables.Table(machine.gpu, (before,)))))
    tune([(INT8, 77, 64, 128)])
    assert table("sm_90a").entries == (before, Entry("sm90_int8_gemm", 77, 64, 128, machine.best))


def test_a_tile_that_was_measured_is_used_at_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are remembered for each size; a new table makes that forgotten."""
    monkeypatch.setattr(compiled, "_multiprocessors", lambda device: 108)
    asked = (NAMES[INT8], 77, 64, 128, 0, False)
    assert compiled._known_tile(*asked) != LARGE
    machine.best = LARGE
    tune([(INT8, 77, 64, 128)])
    assert compiled._known_tile(*asked) == LARGE


def test_without_a_gpu_nothing_is_measured(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "reason", lambda device: "torch sees no CUDA device")
    with pytest.raises(KernelChoiceError, match="tuning measures on a GPU, and torch sees no CUDA device"):
        tune([(INT8, 77, 64, 128)])
    assert not tile_tables.user_table("sm_80").exists()
