"""`quant.save`: a quantized model in memory becomes a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.folder import new_folder
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.shards import WEIGHTS
from quant.workflows.component import write_component
from quant.workflows.record import record_of
from quant.workflows.weights import of_model


def save(model: nn.Module, out: str | Path, *, force: bool = False, max_shard_bytes: int = 10 * 10**9) -> Path:
    """Writes a model that `quant.quantize` or `quant.load` returned.

    Args:
        model: with packed layers.
        out: the folder to make. It appears when it is complete.
        force: replace an existing `out`.
        max_shard_bytes: largest safetensors file.

    Returns:
        `out`. `quant.load(out)` loads a diffusers model, `quant.load(out, into=module)` any other.

    Raises:
        ModelError: the model is not quantized.
        CheckpointError: `out` is in the way or cannot be written.
    """
    out = Path(out)
    record = record_of(model)
    with new_folder(out, force=force) as work:
        hashes = write_component(
            work,
            _model_config(model),
            record.config,
            of_model(model),
            stem=WEIGHTS,
            max_bytes=max_shard_bytes,
            on_tensor=lambda name: None,
        )
        write_manifest(work, {**record.provenance, "layers": {"": record.layers}}, hashes)
    return out


def _model_config(model: nn.Module) -> dict[str, Any]:
    """A diffusers model's own config; of any other, its class's name, which `quant.load` names in errors."""
    if not hasattr(model, "to_json_string"):
        return {"_class_name": type(model).__name__}
    config: dict[str, Any] = json.loads(model.to_json_string())  # type: ignore[operator]
    return {key: value for key, value in config.items() if key not in (CONFIG_KEY, "_name_or_path")}
