"""`quant.convert`: weights on disk become a checkpoint in another format, without data and without running a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from quant.api.calibrate import Calibrated, calibrate
from quant.calibration.preparing import recipe_for
from quant.calibration.solving import needs_data
from quant.errors import RecipeError
from quant.formats.scheme import UNQUANTIZED, Scheme
from quant.pipelines.source import open_source
from quant.recipe import Recipe
from quant.recipe_parts import ADAPT

#: How a weight's range is found without data: by its largest value, or by the least squared error of rounding it.
RANGES = ("max", "mse")


def convert(
    source: str | Path,
    out: str | Path,
    *,
    scheme: str | None = None,
    recipe: str | Path | Recipe | None = None,
    sparsity: str | None = None,
    ranges: str = "max",
    full: bool = False,
    force: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    config: str | Path | None = None,
    max_shard_bytes: int = 10 * 10**9,
    progress: bool = True,
) -> Calibrated:
    """Makes a quantized checkpoint of weights, reading each once, in bounded memory.

    Args:
        source: a safetensors file, a folder of them with or without an index and a config.json, a diffusers component
            or pipeline, a transformers model, or a hub id; also in its authors' names, as FP8 codes with scales, or
            quantized by llm-compressor or ModelOpt.
        out: the folder to make. It appears when it is complete.
        scheme: of every Linear and convolution in the model's blocks, such as "FP8_DYNAMIC"; where its groups do not
            fit a layer, that is kept.
        recipe: instead of a scheme: one that needs no data.
        sparsity: "2:4" with a scheme: of every four weights the two largest stay.
        ranges: "mse" with a scheme: each scale is the one of the least squared error.
        full, force, config, max_shard_bytes, progress: as in `quant.calibrate`.
        dtype: of everything that is not packed, where the model's class is known; of any other it stays as it is.

    A conversion that is killed goes on at the file where it was when the same call is made again.

    Raises:
        QuantError: wrong input, or a recipe that needs data, in one line; what was at `out` is there as before.
    """
    if (scheme is None and sparsity is None) == (recipe is None):
        raise RecipeError("give a scheme, such as FP8_DYNAMIC, or a recipe")
    if recipe is None:
        chosen = recipe_of(scheme, sparsity, ranges)
    elif sparsity is not None or ranges != "max":
        raise RecipeError("sparsity and ranges go with a scheme; a recipe says them itself")
    else:
        chosen = recipe_for(open_source(source, config), recipe)
    if needs_data(chosen):
        raise RecipeError(
            f"{chosen.name}: needs calibration data; run it with quant calibrate and --prompts. Where {source} holds "
            "such codes and scales already, quant export --to compressed-tensors keeps them"
        )
    return calibrate(
        source,
        chosen,
        out,
        full=full,
        force=force,
        dtype=dtype,
        config=config,
        max_shard_bytes=max_shard_bytes,
        progress=progress,
    )


def recipe_of(scheme: str | None, sparsity: str | None = None, ranges: str = "max") -> Recipe:
    """The recipe that gives every Linear and convolution one scheme.

    Args:
        scheme: its name; None for layers that are only sparse.
        sparsity: "2:4", or None.
        ranges: one of `RANGES`.

    Raises:
        RecipeError: names what is unknown.
    """
    if ranges not in RANGES:
        raise RecipeError(f"ranges: must be {' or '.join(RANGES)}, got '{ranges}'")
    name = None if scheme is None else Scheme.parse(scheme).name
    group: dict[str, Any] = {"targets": ["Linear", "Conv1d", "Conv2d", "Conv3d"], "misfits": ADAPT}
    if name is not None and name != UNQUANTIZED:
        group["scheme"] = name
    if sparsity is not None:
        group["sparsity"] = {"structure": sparsity, "method": "magnitude"}
    if ranges != "max":
        group["algorithm"] = {"name": ranges, "importance": "none"}
    words = [word for word in (sparsity, name, ranges if ranges != "max" else None) if word]
    body = {
        "version": 1,
        "summary": f"every Linear and convolution in {' '.join(words)}; no data needed",
        "groups": [group],
    }
    return Recipe.from_dict(body, name="-".join(words).lower().replace("_", "-").replace(":", ""))
