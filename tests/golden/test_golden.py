"""Checkpoints of every format version that was ever released must load for ever, and compute the same."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import quant
from tests.golden.make import FOLDER, net

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["fp8-dynamic", "mixed"])
def test_version_1(name: str) -> None:
    expected = load_file(FOLDER / "expected.safetensors")
    model = quant.load(FOLDER / name, into=net())
    with torch.no_grad():
        assert torch.allclose(model(expected["input"]), expected[name], rtol=1e-6, atol=1e-6)
    schemes = [layer.scheme for layer in quant.inspect(FOLDER / name).components[0].layers]
    assert schemes == (["FP8_DYNAMIC"] * 2 if name == "fp8-dynamic" else ["W8A8", "FP8"])


def test_loading_needs_neither_modelopt_nor_datasets() -> None:
    program = (
        "import sys\nfor name in ('modelopt', 'datasets', 'compressed_tensors'): sys.modules[name] = None\n"
        "import quant, quant.diffusers\nfrom tests.golden.make import FOLDER, net\n"
        "quant.load(FOLDER / 'mixed', into=net())\n"
        "quant.quantize(net(), 'fp8-dynamic')\n"
        "print('fine')"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "fine\n"
