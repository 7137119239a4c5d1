"""safetensors as a stream: the library's own reader reads the same tensors, one at a time is in memory."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from quant import devices
from quant.checkpoint.shard_file import ShardFile, _checksum
from quant.checkpoint.shards import FileTensor, Part, Put
from quant.checkpoint.streaming import write_shards
from quant.errors import CheckpointError, ModelError
from tests.checkpoint.tiny import parts

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16,
    torch.uint8, torch.bool,
]  # fmt: skip
ONE_FILE = "diffusion_pytorch_model.safetensors"


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert isinstance(header, dict)
    return header


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal in dtype, shape and every byte."""
    raw = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for dtype in DTYPES:
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (15 * dtype.itemsize,), generator=generator)
        tensors[str(dtype)] = raw.to(torch.uint8).view(dtype).reshape(3, 5)
    return tensors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0, 4), (2, 1, 3)])
def test_the_library_reads_every_dtype_and_shape(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(dtype)
    write_shards(tmp_path, parts({"x": tensor}))
    (read,) = load_file(tmp_path / ONE_FILE).values()
    assert same(read, tensor)


def test_the_file_holds_what_the_library_itself_would_write(tmp_path: Path) -> None:
    tensors = some_tensors()
    write_shards(tmp_path, parts(tensors))
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    ours, theirs = load_file(tmp_path / ONE_FILE), load_file(tmp_path / "theirs.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(same(ours[name], theirs[name]) for name in theirs)
    digest = len(',"quant_header_sha256":""') + 64
    more = (tmp_path / ONE_FILE).stat().st_size - (tmp_path / "theirs.safetensors").stat().st_size
    assert more - digest in range(-8, 9)
    with safe_open(tmp_path / ONE_FILE, framework="pt") as file:
        assert file.metadata().items() >= {"format": "pt"}.items()


def test_every_tensor_starts_at_a_multiple_of_its_element(tmp_path: Path) -> None:
    write_shards(tmp_path, parts({"odd": torch.zeros(3, dtype=torch.int8), **some_tensors()}))
    header = header_of(tmp_path / ONE_FILE)
    sizes = {str(dtype): dtype.itemsize for dtype in DTYPES}
    assert all(header[name]["data_offsets"][0] % size == 0 for name, size in sizes.items())


@pytest.mark.parametrize("view", ["transposed", "strided", "expanded", "with gradient"])
def test_views_are_written_as_they_read(tmp_path: Path, view: str) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensor = {
        "transposed": base.T,
        "strided": base[1:, ::2],
        "expanded": base[:1].expand(5, 6),
        "with gradient": base.clone().requires_grad_(),
    }[view]
    write_shards(tmp_path, parts({"x": tensor}))
    assert torch.equal(load_file(tmp_path / ONE_FILE)["x"], tensor)


def test_shards_and_their_index(tmp_path: Path) -> None:
    tensors = {f"layer.{i}": torch.full((10,), float(i)) for i in range(5)}
    hashes = write_shards(tmp_path, parts(tensors), stem="model", max_bytes=80)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "model.safetensors.index.json"])
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"] == {f"layer.{i}": names[i // 2] for i in range(5)}
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])
    assert sum(len(load_file(tmp_path / name)) for name in names) == 5
    assert hashes.keys() == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("max_bytes", [1, 80, 10**9])
def test_the_hashes_are_those_of_the_files(tmp_path: Path, max_bytes: int) -> None:
    hashes = write_shards(tmp_path, parts({f"x{i}": torch.randn(10) for i in range(3)}), max_bytes=max_bytes)
    assert hashes == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}


def test_no_tensors_make_an_empty_file(tmp_path: Path) -> None:
    assert write_shards(tmp_path, []).keys() == {ONE_FILE}
    assert load((tmp_path / ONE_FILE).read_bytes()) == {}


def test_a_tensor_that_is_not_as_planned_is_a_defect(tmp_path: Path) -> None:
    planned = {"x": FileTensor(torch.float32, (2, 3))}
    for made, says in [
        (torch.zeros(2, 3, dtype=torch.float16), r"^x: planned torch\.float32 \(2, 3\), made torch\.float16"),
        (torch.zeros(3, 3), r"^x: planned torch\.float32 \(2, 3\), made torch\.float32 \(3, 3\) at byte 0"),
        (torch.zeros(1, 3), "^x: planned, and not made whole"),
    ]:
        folder = tmp_path / str(tuple(made.shape))
        folder.mkdir()
        with pytest.raises(AssertionError, match=says):
            write_shards(folder, [Part(planned, partial(_put, made))])


def _put(made: torch.Tensor, put: Put) -> None:
    put("x", made)


@pytest.mark.parametrize("threads", [1, 4])
def test_parts_of_several_files_are_made_once_and_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """A part gives its tensors in pieces, in turns, and two of them lie in different files."""
    monkeypatch.setattr(devices, "usable_cores", lambda: threads)
    made: list[str] = []
    tensors = {f"{name}{i}": torch.randn(7, 3) for i in range(9) for name in "ab"}

    def part(i: int) -> Part:
        pair = {f"{name}{i}": tensors[f"{name}{i}"] for name in "ab"}

        def make(put: Put) -> None:
            made.append(f"{i}")
            for row in range(7):
                for name, tensor in pair.items():
                    put(name, tensor[row : row + 1])

        return Part({name: FileTensor(tensor.dtype, tuple(tensor.shape)) for name, tensor in pair.items()}, make)

    finished: list[str] = []
    hashes = write_shards(
        tmp_path, [part(i) for i in range(9)], max_bytes=3 * 84, on_file=lambda name, digest: finished.append(name)
    )
    files = [path for path in tmp_path.iterdir() if path.suffix == ".safetensors"]
    assert sorted(made) == sorted(f"{i}" for i in range(9)) and len(files) == 6
    assert sorted(finished) == sorted(path.name for path in files)
    read = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in read)
    assert hashes == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}


def test_what_is_finished_is_not_made_again_unless_it_begins_otherwise(tmp_path: Path) -> None:
    tensors = {f"x{i}": torch.randn(10) for i in range(4)}
    hashes = write_shards(tmp_path, parts(tensors), max_bytes=80)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in hashes}
    first, second = sorted(name for name in hashes if name.endswith(".safetensors"))
    again = write_shards(tmp_path, parts(tensors), max_bytes=80, finished={first: hashes[first]})
    assert again == hashes
    assert (tmp_path / first).stat().st_mtime_ns == before[first]
    assert (tmp_path / second).stat().st_mtime_ns != before[second]
    other = {f"y{i}": torch.randn(10) for i in range(4)}
    write_shards(tmp_path, parts(other), max_bytes=80, finished={name: hashes[name] for name in (first, second)})
    assert load_file(tmp_path / first).keys() == {"y0", "y1"}


def test_the_first_error_of_a_thread_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    never = threading.Event()

    def fails(put: Put) -> None:
        raise ModelError("a part fails")

    def waits(put: Put) -> None:
        while not never.wait(0.01):  # ends with the first piece that it puts after the other failed
            put("endless", torch.zeros(1))

    planned = [Part({"bad": FileTensor(torch.float32, (1,))}, fails)]
    planned.append(Part({"endless": FileTensor(torch.float32, (10**9,))}, waits))
    with pytest.raises(ModelError, match="a part fails"):
        write_shards(tmp_path, planned)


def test_a_file_that_does_not_read_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def before_reading(self: ShardFile) -> str:
        os.pwrite(self._handle, b"\x55", self.path.stat().st_size - 5)
        return digest(self)

    digest = ShardFile._digest
    monkeypatch.setattr(ShardFile, "_digest", before_reading)
    with pytest.raises(CheckpointError, match="does not read back as it was written; is the disk sound"):
        write_shards(tmp_path, parts({"x": torch.randn(100)}))


@given(data=st.binary(max_size=50), flips=st.lists(st.integers(0, 399), min_size=1, max_size=1))
def test_a_checksum_knows_any_one_bit(data: bytes, flips: list[int]) -> None:
    changed = bytearray(data)
    if flips[0] < 8 * len(data):
        changed[flips[0] // 8] ^= 1 << flips[0] % 8
        assert _checksum(changed) != _checksum(data)
    else:
        assert _checksum(changed) == _checksum(data)


def test_a_part_that_makes_nothing_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"^x: planned, and not made whole"):
        write_shards(tmp_path, [Part({"x": FileTensor(torch.float32, (2, 3))}, lambda put: None)])
