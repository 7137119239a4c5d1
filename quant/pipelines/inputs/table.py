"""Every kind of files that a model may be read from, the most telling first: the one list of them."""

from __future__ import annotations

from pathlib import Path

from quant.checkpoint.reader import headers
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.pipelines.inputs.bare import Bare
from quant.pipelines.inputs.base import Component, Files, InputKind
from quant.pipelines.inputs.coded import decoded, quantization_in
from quant.pipelines.inputs.configs import CONFIG, config_folder
from quant.pipelines.inputs.diffusers_model import DiffusersModel
from quant.pipelines.inputs.original import OriginalNaming
from quant.pipelines.inputs.scaled import meant
from quant.pipelines.inputs.transformers_model import TransformersModel
from quant.pipelines.weights import source_tensors

INPUTS: tuple[InputKind, ...] = (OriginalNaming(), DiffusersModel(), TransformersModel(), Bare())


def open_files(path: Path, config: str | Path | None = None) -> Component:
    """What a folder of weights or a single safetensors file holds.

    Args:
        path: the folder or the file.
        config: where the config.json of its class is, if not in the folder: a folder, a pipeline's folder, or a hub id.

    Raises:
        ModelError: no weights, a damaged file, or tensors that the kind of files does not know; no such config.
    """
    files = _files(path, config)
    return next(kind for kind in INPUTS if kind.holds(files)).open(files)


def _files(path: Path, given: str | Path | None) -> Files:
    folder = config_folder(given) if given is not None else path if path.is_dir() else path.parent
    config = folder / CONFIG
    said = read_object(config, ModelError) if config.is_file() else None
    if given is None and not path.is_dir() and "_class_name" not in (said or {}):
        said = None  # what lies next to a file may belong to others
    if path.is_dir():
        stored = source_tensors(path)
    else:
        try:
            stored = headers([path])
        except CheckpointError as error:
            raise ModelError(str(error)) from None
    quantization = quantization_in(path, said)
    tensors = meant(stored) if quantization is None else decoded(stored, quantization, str(config))
    return Files(path, said, None if said is None else folder, tensors)
