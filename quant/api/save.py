"""`quant.save`: a quantized model in memory becomes a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.api.record import record_of
from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.exports.table import stored_layers
from quant.checkpoint.folder import new_folder
from quant.checkpoint.manifest import write_manifest
from quant.checkpoint.shards import TRANSFORMERS_WEIGHTS, WEIGHTS, copied
from quant.checkpoint.transformers_mark import marked
from quant.checkpoint.writing import write_component
from quant.errors import ModelError
from quant.layers.kinds import in_groups
from quant.layers.replace import insert_empty_layers
from quant.pipelines.skeleton import in_our_words, is_transformers, transformers_skeleton
from quant.pipelines.transformers_names import written_twice
from quant.pipelines.weights import of_model


def save(model: nn.Module, out: str | Path, *, force: bool = False, max_shard_bytes: int = 10 * 10**9) -> Path:
    """Writes a model that `quant.quantize` or `quant.load` returned.

    Args:
        model: with packed layers.
        out: the folder to make. It appears when it is complete.
        force: replace an existing checkpoint; anything else at `out` is never replaced.
        max_shard_bytes: largest safetensors file.

    Returns:
        `out`. `quant.load(out)` loads a model of diffusers or transformers, `quant.load(out, into=module)` any other.

    Raises:
        ModelError: the model is not quantized, is a pipeline, or has tensors that `quant.load` could not put into a
            model of its class and config.
        CheckpointError: `out` is in the way or cannot be written.
    """
    out = Path(out)
    record = record_of(model)
    _check_loadable(model, record.config)
    twice = written_twice(model) if is_transformers(model) else set()
    with new_folder(out, force=force) as work:
        hashes = write_component(
            work,
            _model_config(model, record.config),
            record.config,
            [copied(name, tensor) for name, tensor in of_model(model).items() if name not in twice],
            max_bytes=max_shard_bytes,
            stem=TRANSFORMERS_WEIGHTS if is_transformers(model) else WEIGHTS,
        )
        write_manifest(work, {**record.provenance, "layers": {"": record.layers}}, hashes)
    return out


def _model_config(model: nn.Module, quantization: dict[str, Any]) -> dict[str, Any]:
    """A model's own config, as its library writes it; of any other, its class's name, which `quant.load` names."""
    known: Any = model
    config: dict[str, Any]
    if is_transformers(model):
        config = json.loads(known.config.to_json_string())
        config |= {"architectures": [type(model).__name__], "dtype": str(known.dtype).removeprefix("torch.")}
        config = marked(config, quantization)
    elif _is_diffusers(model):
        config = json.loads(known.to_json_string())
    else:
        config = {"_class_name": type(model).__name__}
    return {key: value for key, value in config.items() if key not in (CONFIG_KEY, "_name_or_path")}


def _is_diffusers(model: nn.Module) -> bool:
    """Whether a model is made from a config as diffusers' are; other libraries have a `from_config` of their own."""
    return hasattr(model, "register_to_config")


def _check_loadable(model: nn.Module, quantization: dict[str, Any]) -> None:
    """Compares names and shapes of a model's tensors with those that `quant.load` would make room for."""
    kind: Any = type(model)
    what = f"{kind.__name__}: cannot be made from its config, so quant.load could not either"
    config = _model_config(model, quantization)
    empty: nn.Module
    if is_transformers(model):
        empty = transformers_skeleton(Path(kind.__name__), config, model.state_dict())
    elif _is_diffusers(model):
        with in_our_words(what), torch.device("meta"):
            empty = kind.from_config(config)
    else:
        return  # what it is loaded into is the reader's to give
    insert_empty_layers(empty, stored_layers(quantization, in_groups(empty), type(model).__name__))
    room = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in [*held, *room]:
        if held.get(name) != room.get(name):
            raise ModelError(
                f"{type(model).__name__} has {_described(name, held)}, and one made from its config has "
                f"{_described(name, room)}, so quant.load could not read it: undo what changed the model (as with "
                "unfuse_qkv_projections()), and quantize and save again"
            )


def _described(name: str, shapes: dict[str, tuple[int, ...]]) -> str:
    return f"'{name}' {list(shapes[name])}" if name in shapes else f"no '{name}'"
