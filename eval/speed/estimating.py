"""What the roofline model predicts for a denoising step of a whole model on a GPU that is not at hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.bench.blocks import block_operations
from quant.eval.bench.gpus import Gpu, gpus
from quant.eval.bench.prediction import FUSED, predict
from quant.eval.bench.roofline import predict_operations, total
from quant.eval.bench.sizes import Model, models
from quant.files.model_paths import DENOISERS
from quant.recipe import Recipe
from quant.recipe_files import find_recipe

#: The class whose blocks the prediction knows, and the entry that has their structure.
_CLASS, _LIKE = "WanTransformer3DModel", "wan-14b"
#: Whose recipes are meant where one has a variant for each family.
_FAMILY = "wan"
WHAT = (
    "roofline estimate, nothing was measured: the transformer blocks of one denoising step, quantized ones fused; left "
    "out are embeddings and the output head, launches and gaps between kernels, the scheduler, text encoder and VAE"
)


def estimates(
    transformer: Path | Mapping[str, Any],
    recipes: Mapping[str, Recipe | str | None],
    gpu: str,
    *,
    latents: Sequence[int],
    text_tokens: int = 512,
    guidance: bool = True,
) -> dict[str, Any] | None:
    """The "estimated" part of the speed results; None where no step of these models can be predicted.

    Args:
        transformer: a pipeline's folder, or its denoiser's configuration.
        recipes: the recipe of each model by its name; None for the original. One whose time is not known is left out.
        gpu: which, a name of `quant bench block --gpu`.
        latents: shape of one video's latents, [channels, frames, height, width].
        text_tokens: of the prompt, padded.
        guidance: does each step run the transformer twice?

    Raises:
        QuantError: no GPU or recipe of that name, or a folder without a denoiser's configuration.
    """
    found = {
        name: estimate(transformer, recipe, gpu, latents=latents, text_tokens=text_tokens, guidance=guidance)
        for name, recipe in recipes.items()
    }
    known = {name: {"step_s": seconds} for name, seconds in found.items() if seconds is not None}
    passes = "two passes a step for guidance" if guidance else "one pass a step"
    return {"gpu": gpu, "what": f"{WHAT}; {passes}", "models": known} if known else None


def estimate(
    transformer: Path | Mapping[str, Any],
    recipe: Recipe | str | None,
    gpu: str,
    *,
    latents: Sequence[int],
    text_tokens: int = 512,
    guidance: bool = True,
) -> float | None:
    """Seconds of one denoising step: a block's predicted time, by the number of blocks, by two with guidance.

    Blocks that the recipe keeps at each end count as bf16; layers that a `keep_budget` keeps count as quantized.
    Arguments and errors as of `estimates`; None where the roofline model does not know this class of transformer, the
    recipe's formats or the GPU's rate for its numbers.
    """
    chosen = gpus().get(gpu)
    if chosen is None:
        raise QuantError(f"gpu '{gpu}': not known; known are {', '.join(gpus())}")
    config = transformer if isinstance(transformer, Mapping) else _read(transformer)
    model = _model(config, latents, text_tokens)
    if isinstance(recipe, str):
        recipe = find_recipe(recipe, _FAMILY)
    if model is None:
        return None
    plain = total(predict_operations(block_operations(model, {}), chosen))
    seconds = model.layers * plain if recipe is None else _quantized(model, recipe, chosen, plain)
    return None if seconds is None else seconds * (2 if guidance else 1)


def _quantized(model: Model, recipe: Recipe, gpu: Gpu, plain: float) -> float | None:
    try:
        block = predict(model, recipe, gpu).seconds(FUSED)
    except QuantError:  # the GPU does not multiply such numbers, or the recipe has branches
        return None
    kept = 2 * round(recipe.keep_edge_blocks * model.layers)
    return (model.layers - kept) * block + kept * plain


def _model(config: Mapping[str, Any], latents: Sequence[int], text_tokens: int) -> Model | None:
    """The sizes of a Wan transformer; None for another class, and for one that also attends to an image."""
    if config.get("_class_name") != _CLASS or config.get("added_kv_proj_dim") is not None:
        return None
    try:
        heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
        ff, depth, patch = config["ffn_dim"], config["num_layers"], config["patch_size"]
        norm = config["cross_attn_norm"]
    except KeyError as missing:
        raise QuantError(f"the configuration of the {_CLASS} has no {missing}: give a complete config.json") from None
    return models()[_LIKE]._replace(
        d=heads * head_dim,
        ff=ff,
        heads=heads,
        head_dim=head_dim,
        layers=depth,
        video_tokens=math.prod(size // part for size, part in zip(latents[-3:], patch, strict=True)),
        text_tokens=text_tokens,
        cross_norm=norm,
    )


def _read(folder: Path) -> Mapping[str, Any]:
    file = next((path for name in DENOISERS if (path := folder / name / "config.json").is_file()), None)
    if file is None:
        raise QuantError(f"{folder / DENOISERS[0] / 'config.json'}: not there; give a pipeline's folder")
    body: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return body
