"""Writes one quantized component: config.json and safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.digests import config_metadata
from quant.checkpoint.kept_shards import KeptShards
from quant.checkpoint.shards import WEIGHTS, Part
from quant.checkpoint.streaming import write_shards
from quant.files.json_files import text_of


def write_component(
    folder: Path,
    config: Mapping[str, Any],
    quantization: dict[str, Any],
    parts: Sequence[Part],
    *,
    max_bytes: int,
    stem: str = WEIGHTS,
    shards: KeptShards | None = None,
    component: str = "",
    errors: dict[str, float] | None = None,
) -> dict[str, str]:
    """Writes `config.json` and the tensors into a new folder.

    Args:
        config: the component's config, without its quantization.
        quantization: its quantization_config.
        parts: what makes its tensors.
        max_bytes: largest size of a file's tensors.
        stem: name of the files of tensors, without number and extension.
        shards: where files of tensors are written instead, and kept until all of a checkpoint are; None keeps none.
        component: the name that its files have there.
        errors: of the layers that the parts make, which are kept with the files.

    Returns:
        SHA-256 by name of the files of tensors and their index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, body = folder / "config.json", {**config, CONFIG_KEY: quantization}
    text = text_of(body, str(path), indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    vouching = config_metadata(body)
    if shards is None:
        return write_shards(folder, parts, stem=stem, max_bytes=max_bytes, metadata=vouching)
    known = {} if errors is None else errors
    known.update(shards.errors(component))
    return write_shards(
        shards.place(component),
        parts,
        stem=stem,
        max_bytes=max_bytes,
        metadata=vouching,
        on_file=lambda name, digest: shards.keep(component, name, digest, known),
        finished=shards.finished(component),
    )
