"""A pipeline whose quantized components lie in its own folder, or in a checkpoint of components alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from quant.api import hf_quantizer, transformers_quantizer
from quant.api.load import load
from quant.checkpoint.reader import component_folders, read_config
from quant.errors import CheckpointError, ModelError
from quant.files.model_paths import DENOISERS
from quant.files.places import is_folder
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.source import Source, is_pipeline_folder, open_source
from quant.text import shown


@dataclass(frozen=True)
class PipelineFiles:
    """Where a pipeline lies.

    Attributes:
        source: its folder, or that of the original which has all components that a checkpoint has not.
        parts: the folders of the quantized components that take the place of the source's, by name.
    """

    source: Source
    parts: Mapping[str, Path] = field(default_factory=dict)

    def seen(self) -> list[list[tuple[str, int, int]]]:
        """Name, size and time of each file; no content is read."""
        parts = (open_source(folder) for folder in self.parts.values())
        return [Snapshot.of(source).seen for source in (self.source, *parts)]


def find_pipeline(model: str | Path, base: str | Path | None = None) -> PipelineFiles:
    """Finds a pipeline; nothing is loaded yet.

    Args:
        model: a pipeline's folder or hub id, quantized or not, or a checkpoint: of some components, or of one.
        base: the pipeline that has the other components of such a checkpoint.

    Raises:
        ModelError: no such model; a base that is missing, is not needed, is no pipeline or lacks a component.
        CheckpointError: no component of the model is quantized.
    """
    folder = Path(model)
    if not is_folder(folder) or is_pipeline_folder(folder):
        source = open_source(model)
        if not source.is_pipeline:
            raise ModelError(f"{model}: is one component's weights; give the folder of a pipeline or of a checkpoint")
        if base is not None:
            raise ModelError(f"{model}: is a whole pipeline, which needs no --base")
        return PipelineFiles(source)
    found = component_folders(folder)
    if base is None:
        raise ModelError(f"{folder}: has no model_index.json, so it is no whole pipeline; name its original by --base")
    source = open_source(base)
    if not source.is_pipeline:
        raise ModelError(f"{base}: is no pipeline; --base takes the folder of the whole original")
    parts = {name or _name_in(source, folder): path for name, path in found.items()}
    stranger = next((name for name in parts if name not in source.parts), None)
    if stranger is not None:
        raise ModelError(f"{source.folder}: has no component '{stranger}', which {folder} holds; give its own original")
    return PipelineFiles(source, parts)


def load_pipeline(
    files: PipelineFiles,
    dtype: torch.dtype,
    *,
    fused: bool | None = None,
    shared: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """A pipeline on the CPU, as stock diffusers loads it.

    Args:
        files: where it lies.
        dtype: of all that is not packed.
        fused: for the quantized denoisers, as in `quant.load`.
        shared: modules that are there already, by name; parts of `files` win.

    Raises:
        QuantError: as `quant.load`; asked to be fused, no denoiser is quantized.
        Exception: whatever diffusers and those below it raise.
    """
    for library in (hf_quantizer, transformers_quantizer):
        library.register()  # what lies in the pipeline's own folder is read by them
    parts = dict(files.parts)
    if fused:
        parts = {**_own(files.source), **parts}
        if not any(name in DENOISERS for name in parts):
            raise ModelError(f"{files.source.folder}: no denoiser of it is quantized, so there is none to fuse")
    loaded = {
        name: load(folder, dtype=dtype, fused=fused if name in DENOISERS else None) for name, folder in parts.items()
    }
    return files.source.pipeline(dtype, {**shared, **loaded})


def _own(source: Source) -> dict[str, Path]:
    """The quantized components of a pipeline's own folder."""
    try:
        return component_folders(source.folder)
    except CheckpointError:  # none is
        return {}


def _name_in(source: Source, folder: Path) -> str:
    """Which component of a pipeline a lone component's folder is, by its class, and then by its name."""
    config = read_config(folder)
    named = config.get("_class_name") or (config.get("architectures") or [None])[0]
    fitting = [name for name, kind in {**source.classes, **source.others}.items() if kind == named]
    if folder.resolve().name in fitting:
        return folder.resolve().name
    if len(fitting) != 1:
        have = ", ".join(fitting) or "none"
        raise ModelError(
            f"{folder}: is a {shown(named)}, of which {source.folder} has {have}; give a folder that holds this one "
            "under its component's name"
        )
    return fitting[0]
