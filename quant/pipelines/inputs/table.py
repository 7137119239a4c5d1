"""Every kind of files that a model may be read from, the most telling first: the one list of them."""

from __future__ import annotations

from pathlib import Path

from quant.checkpoint.reader import headers
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.pipelines.inputs.bare import Bare
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.diffusers_model import DiffusersModel
from quant.pipelines.inputs.scaled import meant
from quant.pipelines.weights import source_tensors

INPUTS: tuple[InputKind, ...] = (DiffusersModel(), Bare())


def open_files(path: Path) -> Component:
    """What a folder of weights or a single safetensors file holds.

    Raises:
        ModelError: no weights, a damaged file, or tensors that the kind of files does not know.
    """
    files = _files(path)
    return next(kind for kind in INPUTS if kind.holds(files)).open(files)


def _files(path: Path) -> Files:
    if path.is_dir():
        config = path / "config.json"
        return Files(path, read_object(config, ModelError) if config.is_file() else None, meant(source_tensors(path)))
    try:
        return Files(path, None, meant(headers([path])))
    except CheckpointError as error:
        raise ModelError(str(error)) from None
