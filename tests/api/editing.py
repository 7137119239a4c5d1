"""Edits of a checkpoint's files, as another program or a mistake makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
Edit = Callable[[dict[str, torch.Tensor]], object]


def edited(folder: Path, edit: Edit, file: str = WEIGHTS) -> None:
    """Write the folder's tensors again after an edit, by another writer: no hash of the config stays with them."""
    tensors = load_file(folder / file)
    edit(tensors)
    save_file(tensors, folder / file)


def configured(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Write the folder's config.json again after an edit."""
    body = json.loads((folder / "config.json").read_text())
    edit(body)
    (folder / "config.json").write_text(json.dumps(body))


def put_all(new: dict[str, torch.Tensor]) -> Edit:
    """Return the edit that adds tensors or puts them in the place of others."""
    return lambda tensors: tensors.update(new)
