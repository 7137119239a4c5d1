"""Checkpoints and models on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

import quant
from quant.recipe import Recipe
from tests import tiny_pipeline
from tests.fuzz.target import Target

_RECIPE = {
    "version": 1,
    "groups": [
        {"targets": ["0"], "scheme": "W8A8"},
        {"targets": ["1"], "scheme": "W4A16"},
        {"targets": ["2"], "scheme": "FP8", "algorithm": {"name": "percentile", "percentile": 99.0}},
        {"targets": ["3"], "scheme": "FP8_DYNAMIC", "sparsity": {"method": "magnitude"}},
        {"targets": ["4"], "scheme": "W8A8", "algorithm": {"name": "smoothquant", "alpha": 0.5}},
        {"targets": ["5"], "scheme": "W4A8", "algorithm": {"name": "svdquant", "rank": 2}},
        {"targets": ["6"], "scheme": "W4A16_ASYM"},
    ],
    "ignore": ["7"],
}


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(128, 128, bias=i % 2 == 0) for i in range(8))).eval()


def _make_net(folder: Path) -> None:
    torch.manual_seed(1)
    rows = torch.randn(300, 128)
    made = quant.quantize(_net(), Recipe.from_dict(_RECIPE), forward_loop=lambda net: net(rows))
    quant.save(made, folder / "net")


def _without_manifest(folder: Path) -> None:
    _make_net(folder)
    (folder / "net" / "quant_manifest.json").unlink()


def _load_net(folder: Path) -> Any:
    return dict(quant.load(folder / "net", into=_net()).state_dict())


def _not_what_the_file_says(folder: Path, found: Any) -> str | None:
    """Without hashes a changed code is another weight; but then it is the one that the file holds."""
    stored = load_file(folder / "net" / "diffusion_pytorch_model.safetensors")
    if stored.keys() != found.keys():
        return f"tensors of the model and not the file: {sorted(stored.keys() ^ found.keys())}"
    for name, tensor in found.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            return f"{name} is not finite"
        if tensor.shape != stored[name].shape or not torch.equal(tensor.float(), stored[name].float()):
            return f"{name} is not what the file holds"
    return None


def _inspect_net(folder: Path) -> Any:
    return json.loads(json.dumps(quant.inspect(folder / "net").to_dict(), default=str))


def _verify_net(folder: Path) -> Any:
    """True; a fault that was found counts as a refusal."""
    found = quant.verify(folder / "net", progress=False)
    if not found.sound:
        raise quant.QuantError(next(check.faults[0] for check in found.checks if check.faults))
    return True


def _make_pipeline(folder: Path) -> None:
    tiny_pipeline.save_pipeline(folder / "model")
    quant.calibrate(folder / "model", "fp8-dynamic", folder / "made", progress=False)


def _make_without_manifest(folder: Path) -> None:
    """A config that reaches what reads it: a manifest's hash would refuse every change before."""
    _make_pipeline(folder)
    (folder / "made" / "quant_manifest.json").unlink()


def _make_foreign(folder: Path) -> None:
    """As diffusers saves it: without hashes of the header and of config.json."""
    _make_pipeline(folder)
    quant.load(folder / "made").save_pretrained(folder / "saved")  # type: ignore[operator]


def _load_foreign(folder: Path) -> Any:
    return dict(quant.load(folder / "saved").state_dict())


def _load_transformer(folder: Path) -> Any:
    return dict(quant.load(folder / "made").state_dict())


def _calibrate(folder: Path) -> Any:
    """The tensors that a data-free calibration of the pipeline's folder makes."""
    import shutil

    out = folder.with_name(f"{folder.name}-out")
    try:
        quant.calibrate(folder / "model", "w8a16", out, progress=False)
        return load_file(out / "transformer" / "diffusion_pytorch_model.safetensors")
    finally:
        shutil.rmtree(out, ignore_errors=True)


CHECKPOINTS = (
    Target("checkpoint with hashes", _make_net, _load_net, hashed=True, share=2.0),
    Target("checkpoint without hashes", _without_manifest, _load_net, wrong=_not_what_the_file_says, share=4.0),
    Target("inspect", _without_manifest, _inspect_net),
    Target("inspect a manifest", _make_net, _inspect_net, mutated=("net/*.json",)),
    Target("verify", _make_net, _verify_net, hashed=True, share=0.5),
    Target("verify without hashes", _without_manifest, _verify_net, share=0.5),
    Target(
        "transformer's config",
        _make_without_manifest,
        _load_transformer,
        mutated=("made/transformer/config.json",),
        hashed=True,  # by the header of the file of tensors
    ),
    Target("transformer of diffusers", _make_foreign, _load_foreign, mutated=("saved/*",)),
    Target(
        "transformer with hashes", _make_pipeline, _load_transformer, mutated=("made/**/*",), hashed=True, share=0.5
    ),
    Target("original model", _make_pipeline, _calibrate, mutated=("model/*.json", "model/transformer/*"), share=0.5),
)
