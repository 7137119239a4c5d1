"""Writes one quantized component: config.json and safetensors, tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.digests import config_metadata
from quant.checkpoint.shards import TensorPlan, write_shards
from quant.files.json_files import text_of


def write_component(
    folder: Path,
    config: dict[str, Any],
    quantization: dict[str, Any],
    plans: Mapping[str, TensorPlan],
    *,
    stem: str,
    max_bytes: int,
    on_tensor: Callable[[str], None],
) -> dict[str, str]:
    """Writes `config.json` and the tensors into a new folder.

    Args:
        config: the component's config, without its quantization.
        quantization: its quantization_config.

    Returns:
        SHA-256 by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, body = folder / "config.json", {**config, CONFIG_KEY: quantization}
    text = text_of(body, str(path), indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    vouching = config_metadata(body)
    hashes = write_shards(folder, plans, stem=stem, max_bytes=max_bytes, metadata=vouching, on_tensor=on_tensor)
    return {**hashes, "config.json": hashlib.sha256(text.encode()).hexdigest()}
