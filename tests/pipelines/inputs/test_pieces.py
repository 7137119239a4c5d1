"""What is read of a traced tensor is what the same function makes of real ones, any rows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.reader import headers
from quant.pipelines.inputs.pieces import Traced, trace
from quant.pipelines.inputs.tensors import SourceTensor, as_stored

Tensors = dict[str, torch.Tensor]
REAL: Tensors = {
    "a": torch.arange(12 * 5).reshape(12, 5).bfloat16(),
    "b": torch.arange(6 * 5).reshape(6, 5).bfloat16() + 100,
    "bias": torch.arange(12.0),
    "conv": torch.arange(8 * 2 * 3.0).reshape(8, 2, 3),
    "lone": torch.arange(7.0).reshape(1, 7, 1, 1),
    "codes": torch.arange(16.0).reshape(8, 2).to(torch.float8_e4m3fn),
    "one": torch.tensor(5.0),
}


def files(folder: Path) -> dict[str, SourceTensor]:
    save_file(REAL, folder / "model.safetensors")
    return as_stored(headers([folder / "model.safetensors"]))


def swapped(t: Tensors) -> Tensors:
    shift, scale = t["a"].chunk(2, dim=0)
    return {"a": torch.cat([scale, shift], dim=0), "bias": torch.cat(t["bias"].chunk(2)[::-1])}


FUNCTIONS: dict[str, Callable[[Tensors], Tensors]] = {
    "renamed": lambda t: {f"x.{name}": tensor for name, tensor in t.items()},
    "swapped": swapped,
    "split": lambda t: dict(zip("qkv", torch.split(t["a"], [3, 4, 5], dim=0), strict=True)),
    "ragged chunks": lambda t: {str(i): part for i, part in enumerate(torch.chunk(t["conv"], 3))},
    "slices": lambda t: {"x": t["a"][:5], "y": t["a"][5:], "z": t["a"][-1], "w": t["a"][2:9][1:4], "none": t["a"][4:2]},
    "joined": lambda t: {"x": torch.cat([t["a"][3:7], t["b"], t["a"][:1]])},
    "joined codes": lambda t: {"x": torch.cat([t["codes"][3:], t["codes"][:2]])},
    "a bias of a convolution": lambda t: {"x": t["lone"][0, :, 0, 0], "y": t["lone"].squeeze(), "z": t["lone"][0, 2:5]},
    "shapes": lambda t: {
        "flat": t["conv"].reshape(8, -1),
        "more": t["a"].view(3, 4, 5)[1:],
        "thin": t["bias"].unsqueeze(1),
        "fewer": t["conv"].flatten(0, 1)[3:9],
        "copy": t["one"].clone(),
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_of_real_tensors(tmp_path: Path, name: str) -> None:
    expected = FUNCTIONS[name](dict(REAL))
    found, left = trace(FUNCTIONS[name], files(tmp_path))  # type: ignore[arg-type]
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        real = expected[key]
        assert tensor.shape == tuple(real.shape)
        assert torch.equal(tensor.whole().float(), real.float())
        assert tensor.whole().dtype == real.dtype
        rows = len(real) if real.ndim else 0
        for start in range(rows):
            for stop in range(start + 1, rows + 1):
                assert torch.equal(tensor.rows(start, stop).float(), real[start:stop].float())
    if name == "swapped":
        assert set(left) == {"b", "codes", "conv", "lone", "one"}


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    stored = files(tmp_path)

    def rows(start: int, stop: int) -> torch.Tensor:
        asked.append((start, stop))
        return REAL["a"][start:stop]

    watched = {"a": SourceTensor(tmp_path, "BF16", (12, 5), rows), "b": stored["b"]}
    found, _ = trace(lambda t: {"x": torch.cat([t["b"], *t["a"].chunk(2)[::-1]])}, watched)  # type: ignore[dict-item]
    assert asked == []
    found["x"].rows(4, 8)
    assert asked == [(6, 8)]


@pytest.mark.parametrize(
    "function",
    [
        lambda t: {"x": t["a"].t()},
        lambda t: {"x": t["a"] + 1},
        lambda t: {"x": t["a"].chunk(2, dim=1)[0]},
        lambda t: {"x": t["a"].float()},
        lambda t: {"x": torch.cat([t["a"], t["a"]], dim=1)},
        lambda t: {"x": torch.cat([t["bias"], t["codes"].view(-1)])},
        lambda t: {"x": t["a"][::2]},
        lambda t: {"x": t["a"]} if bool((t["a"] == 0).all()) else {},
    ],
)
def test_what_needs_values_or_another_order_is_refused_by_name(
    tmp_path: Path, function: Callable[[dict[str, Traced]], dict[str, Traced]]
) -> None:
    with pytest.raises(NotImplementedError, match=r"needs aten\..* of '(a|bias)', which is not done here; load it"):
        trace(function, files(tmp_path))
