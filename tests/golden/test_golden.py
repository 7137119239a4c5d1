"""Checkpoints of every format version that was ever released must load for ever, and compute the same."""

import pytest
import torch
from safetensors.torch import load_file

import quant
from tests.golden.make import FOLDER, net


@pytest.mark.parametrize("name", ["fp8-dynamic", "mixed"])
def test_version_1(name: str) -> None:
    expected = load_file(FOLDER / "expected.safetensors")
    model = quant.load(FOLDER / name, into=net())
    with torch.no_grad():
        assert torch.allclose(model(expected["input"]), expected[name], rtol=1e-6, atol=1e-6)
    schemes = [layer.scheme for layer in quant.inspect(FOLDER / name).components[0].layers]
    assert schemes == (["FP8_DYNAMIC"] * 2 if name == "fp8-dynamic" else ["W8A8", "FP8"])
