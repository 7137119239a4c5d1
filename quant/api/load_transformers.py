"""`quant.load` of a transformers model, such as a pipeline's text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.api.loading import loading
from quant.checkpoint.config import CONFIG_KEY, stored_dtype
from quant.checkpoint.digests import check_config
from quant.checkpoint.reader import StoredTensor, main_file, most_stored, stored_tensors
from quant.checkpoint.shards import DTYPES
from quant.checkpoint.transformers_mark import MARK_KEY
from quant.families.fusing import block_module
from quant.pipelines.skeleton import in_our_words, transformers_class, transformers_skeleton


def transformers_model(
    path: Path,
    config: Mapping[str, Any],
    dtype: torch.dtype | None,
    device: torch.device,
    *,
    fused: bool,
    check_files: bool,
) -> nn.Module:
    """The model of a component's folder, whichever `quant_method` it is stored under.

    Args:
        path: the folder.
        config: its config.json, whose class `transformers_class` finds.
        dtype, device, fused, check_files: as of `quant.load`.

    Raises:
        CheckpointError, ModelError: as `quant.load`.
    """
    from quant.api.transformers_quantizer import QuantizationConfig, register

    register()
    tensors = stored_tensors(path)
    plain = {key: value for key, value in config.items() if key not in (CONFIG_KEY, MARK_KEY)}
    where = path / "config.json"
    empty = transformers_skeleton(where, plain, tensors)
    if fused:
        block_module(empty)
    if check_files:
        check_config(path, {tensor.file for tensor in tensors.values()})
    if dtype is None:
        named = stored_dtype(config[CONFIG_KEY], str(where))
        wide = (tensor for tensor in tensors.values() if _is_wide(tensor))
        dtype = most_stored(wide) if named is None else getattr(torch, named)
    cls = transformers_class(config)
    with loading(path), in_our_words(f"{path}: transformers cannot load it"):
        known = cls.config_class.from_dict(plain)
        known.quantization_config = QuantizationConfig(**config[CONFIG_KEY])
        index, single = main_file(path)  # the very files that were checked
        setattr(known, MARK_KEY, (index or single or path).name)
        places = {"": str(device)}
        model = cls.from_pretrained(path, config=known, dtype=dtype, device_map=places, local_files_only=True)
    assert isinstance(model, nn.Module)
    return model.eval()


def _is_wide(tensor: StoredTensor) -> bool:
    """Is a tensor of floats that are no codes?"""
    dtype = DTYPES.get(tensor.dtype)
    return dtype is not None and dtype.is_floating_point and dtype.itemsize > 1
