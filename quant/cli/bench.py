"""`quant bench`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from quant.cli.options import COUNT, NAME
from quant.eval.bench.gpus import gpus
from quant.eval.bench.sizes import models

if TYPE_CHECKING:
    from quant.eval.bench.prediction import Prediction
    from quant.recipe import Recipe

_MODELS, _GPUS = tuple(models()), tuple(gpus())


@click.group()
def bench() -> None:
    """Say how fast a model's parts are: measured on this machine's GPU, or predicted for another.

    \b
    quant bench block --model wan-14b --recipe w8a8 --gpu h100-sxm
    """


@bench.command()
@click.option("--model", "name", type=click.Choice(_MODELS), required=True, help="Whose transformer block.")
@click.option("--recipe", required=True, type=NAME, help="A recipe's name, or the path of a YAML file.")
@click.option("--tokens", type=COUNT, metavar="N", help="Of one video.  [default: the model's, see below]")
@click.option("--batch", type=COUNT, default=1, show_default=True, help="Samples; 2 with guidance in one.")
@click.option("--gpu", type=click.Choice(_GPUS), help="Predict for this one, and measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def block(name: str, recipe: str, tokens: int | None, batch: int, gpu: str | None, as_json: bool) -> None:
    """Compare one transformer block in bf16 with the same under a recipe, unfused and fused, operation by operation.

    Any recipe will do but one with low-rank branches.

    With --gpu it prints what a roofline model predicts for that GPU: none is needed, and nothing is measured. Without,
    it measures on this machine's GPU, with random weights: bf16 under torch.compile with the fastest attention that
    torch has, against the recipe; time by kind of operation, beside the prediction.

    Tokens of a video: wan-14b and wan-1.3b 32,760 (832x480, 81 frames; 75,600 at 1280x720), hunyuan 118,800 (1280x720,
    129 frames, beside 256 of text), ltx-13b 13,376 (1216x704, 121 frames).
    """
    from quant.errors import QuantError
    from quant.eval.bench.measure import measure
    from quant.eval.bench.prediction import predict, predict_for_device
    from quant.eval.bench.table import measured_text, prediction_text
    from quant.families.table import family_name
    from quant.recipe_files import find_recipe

    model = models()[name]
    if tokens is not None:
        model = model._replace(video_tokens=tokens, about="as asked for")
    chosen = find_recipe(recipe, family_name(model.transformer))
    if gpu is not None:
        prediction = _noted(predict(model, chosen, gpus()[gpu], batch=batch), chosen)
        click.echo(json.dumps(prediction.to_dict(), indent=1) if as_json else prediction_text(prediction))
        return
    import torch

    if not torch.cuda.is_available():
        raise QuantError(f"torch sees no CUDA device to measure on; --gpu predicts for one of {', '.join(_GPUS)}")
    device = torch.device("cuda", torch.cuda.current_device())
    title = torch.cuda.get_device_name(device)
    found = measure(model, chosen, device, title, batch=batch)
    predicted = predict_for_device(model, chosen, title, batch=batch)
    if not isinstance(predicted, str):
        predicted = _noted(predicted, chosen)
    if as_json:
        extra = {"no_prediction": predicted} if isinstance(predicted, str) else {"prediction": predicted.to_dict()}
        click.echo(json.dumps({**found.to_dict(), **extra}, indent=1))
        return
    click.echo(measured_text(found, predicted))


def _noted(prediction: Prediction, recipe: Recipe) -> Prediction:
    """With a note for what no kernel of this program runs on that GPU, though its time is predicted."""
    from quant.api.explain import missing_kernels
    from quant.eval.bench.schemes import decide
    from quant.eval.bench.sizes import layers

    model, layer_formats = prediction.model, decide(prediction.model, recipe).layer_formats
    sizes = [
        (layer_format, model.rows(layer.stream, prediction.batch), layer.n, layer.k)
        for layer in layers(model)
        if (layer_format := layer_formats[layer.name]) is not None
    ]
    missing = missing_kernels(sizes, prediction.gpu.arch)
    notes = [f"{note}; its time is predicted of a kernel that there is not" for note in missing]
    return prediction._replace(notes=(*prediction.notes, *notes))
