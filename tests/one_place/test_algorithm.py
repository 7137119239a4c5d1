"""An algorithm and a pruning method that only this file knows make a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

import quant
from quant.algorithms import table as algorithms
from quant.algorithms.base import Algorithm, Check, Needs, Options, Pruned, Rounded, check_flag
from quant.algorithms.pruning import PRUNINGS, Pruning
from quant.formats.grid import grid_of
from quant.formats.scheme import TensorFormat
from tests.tiny_pipeline import save_pipeline


class TowardsZero(Algorithm):
    """Takes the code next to a weight on the side of zero, on a range of its own: the row's, a quarter wider."""

    name = "towards-zero"
    options: ClassVar[Mapping[str, Check]] = {"flip": check_flag}
    rounds = True

    def round(
        self, pruned: Pruned, tensor_format: TensorFormat, hessian: torch.Tensor | None, options: Options
    ) -> Rounded:
        narrow = grid_of(pruned.weight, tensor_format)
        grid = replace(narrow, scale=narrow.scale * 1.25)
        codes = (pruned.weight / grid.scale).trunc() * (-1 if options.get("flip") else 1)
        return Rounded(grid.values(codes), grid)


def _first_and_last(weight: torch.Tensor, hessian: object) -> tuple[torch.Tensor, None]:
    """Of every four columns."""
    return (torch.arange(weight.shape[1]) % 4 % 3 == 0).expand_as(weight), None


def test_an_algorithm_and_a_pruning_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"targets": ["Linear"], "scheme": "W8A8", "algorithm": {"name": "towards-zero", "flip": True}}
    recipe = {"version": 1, "groups": [{**body, "sparsity": {"method": "first-and-last"}}]}
    with pytest.raises(quant.QuantError, match="must be one of magnitude, wanda, sparsegpt, search"):
        quant.Recipe.from_dict(recipe)
    monkeypatch.setattr(algorithms, "PRUNINGS", (*PRUNINGS, Pruning("first-and-last", Needs(), _first_and_last)))
    with pytest.raises(quant.QuantError, match="unknown algorithm 'towards-zero'; known: max, mse"):
        quant.Recipe.from_dict(recipe)
    monkeypatch.setattr(algorithms, "ALGORITHMS", (*algorithms.ALGORITHMS, TowardsZero()))
    model = save_pipeline(tmp_path / "model")
    quant.calibrate(model, quant.Recipe.from_dict(recipe), tmp_path / "out", progress=False)
    stored = load_file(tmp_path / "out/transformer/diffusion_pytorch_model.safetensors")
    original = load_file(model / "transformer/diffusion_pytorch_model.safetensors")["blocks.0.ffn.net.2.weight"].float()
    codes, scale = (stored[f"blocks.0.ffn.net.2.{leaf}"] for leaf in ("weight", "weight_scale"))
    kept = original * (torch.arange(original.shape[1]) % 4 % 3 == 0)
    assert torch.equal(scale, kept.abs().amax(1, keepdim=True) / 127 * 1.25)
    assert torch.equal(codes.float(), -(kept / scale).trunc())
