"""GGUF, read by what ggml's documents say of files and blocks."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.errors import QuantError
from tests.exporting.meaning import converted, in_authors_names, stored


class Read(NamedTuple):
    entries: dict[str, str | int]
    tensors: dict[str, torch.Tensor]
    types: dict[str, int]


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> Any:
        (value,) = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return value

    def text(self) -> str:
        size = self.take("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()


def read(file: Path) -> Read:
    cursor = _Cursor(file.read_bytes())
    assert (cursor.take("4s"), cursor.take("I")) == (b"GGUF", 3)
    tensors, entries = cursor.take("Q"), cursor.take("Q")
    said: dict[str, str | int] = {}
    for _ in range(entries):
        name = cursor.text()
        kind = cursor.take("I")
        said[name] = cursor.text() if kind == 8 else cursor.take({4: "I"}[kind])
    places = []
    for _ in range(tensors):
        name = cursor.text()
        sizes = [cursor.take("Q") for _ in range(cursor.take("I"))]
        places.append((name, sizes[::-1], cursor.take("I"), cursor.take("Q")))
    first = -(-cursor.at // 32) * 32
    found = {}
    for name, shape, kind, place in places:
        assert place % 32 == 0
        raw = np.frombuffer(cursor.data, np.uint8, offset=first + place)
        found[name] = torch.from_numpy(_values(kind, raw, int(np.prod(shape))).copy()).reshape(shape)
    return Read(said, found, {name: kind for name, _, kind, _ in places})


def _values(kind: int, raw: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.float32]:
    if kind == 0:
        return raw[: 4 * count].view(np.float32)
    blocks = raw[: count // 32 * {2: 18, 8: 34}[kind]].reshape(count // 32, -1)
    scales, data = blocks[:, :2].copy().view(np.float16).astype(np.float32), blocks[:, 2:]
    if kind == 8:
        return scales * data.view(np.int8).astype(np.float32)
    codes = np.concatenate([data & 15, data >> 4], axis=1).astype(np.float32) - 8
    return (scales * codes).astype(np.float32)


@pytest.mark.parametrize("scheme", ["W4A16", "W8A8"])
def test_the_blocks_are_the_weights_we_mean(model_folder: Path, tmp_path: Path, scheme: str) -> None:
    checkpoint = converted(model_folder, scheme)
    if scheme == "W8A8":  # scales as llm-compressor stores them, which float16 holds
        folder = tmp_path / "short"
        folder.mkdir()
        tensors = load_file(checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")
        scales = {name: each.bfloat16() for name, each in tensors.items() if name.endswith(".weight_scale")}
        save_file({**tensors, **scales}, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text((checkpoint / "transformer" / "config.json").read_text())
        checkpoint = folder
    quant.export(checkpoint, tmp_path / "out", to="gguf")
    found = read(tmp_path / "out" / "out.gguf")
    assert found.entries == {"general.architecture": "wan", "general.quantization_version": 2}
    meant, codes = stored(checkpoint)
    expected = in_authors_names(meant)
    assert {*found.tensors} == {*expected}
    assert all(torch.equal(tensor, expected[name].float()) for name, tensor in found.tensors.items())
    assert sum(kind == (2 if scheme == "W4A16" else 8) for kind in found.types.values()) == len(codes)


def test_scales_that_float16_has_not_are_refused(model_folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(QuantError, match=r"'blocks\.0\.attn1\.to_q': its scales are float32 and not exact in float16"),
        pytest.warns(UserWarning, match="quantizes inputs, too"),
    ):
        quant.export(converted(model_folder, "W8A8"), tmp_path / "out", to="gguf")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_zero_points_and_floats_are_refused(model_folder: Path, tmp_path: Path) -> None:
    for scheme in ("W4A16_ASYM", "FP8_DYNAMIC"):
        with pytest.raises(QuantError, match=r"cannot hold .*Q4_0 and Q8_0 .*scheme W4A16"):
            quant.export(converted(model_folder, scheme), tmp_path / "out", to="gguf")
