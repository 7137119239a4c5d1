"""Made `v1/`: run once for each format version, by `python -m tests.golden.make`, and never again for an old one."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import quant

FOLDER = Path(__file__).parent / "v1"
MIXED = """
version: 1
summary: one layer in INT8 with smoothing, one in static FP8
groups:
  - {targets: ["0"], scheme: W8A8, algorithm: {name: smoothquant, alpha: 0.5}}
  - {targets: [Linear], scheme: FP8, algorithm: max}
"""


def net() -> nn.Sequential:
    """The module that the golden checkpoints are of."""
    return nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 5, bias=False))


def main() -> None:
    torch.manual_seed(0)
    model, x = net(), torch.randn(6, 12)
    expected = {"input": x}
    for name, recipe in (("fp8-dynamic", "fp8-dynamic"), ("mixed", quant.Recipe.from_yaml(MIXED, "mixed"))):
        made = quant.quantize(model, recipe, forward_loop=lambda module: module(x))
        quant.save(made, FOLDER / name)
        with torch.no_grad():
            expected[name] = made(x)
    save_file(expected, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
