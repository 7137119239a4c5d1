"""What the roofline model predicts for a block under a recipe: bf16, quantized, and quantized and fused."""

from __future__ import annotations

from typing import Any, NamedTuple

from quant.errors import QuantError
from quant.eval.bench.blocks import block_operations
from quant.eval.bench.gpus import Gpu, of_device
from quant.eval.bench.roofline import Predicted, by_kind, predict_operations, total
from quant.eval.bench.schemes import decide
from quant.eval.bench.sizes import Model
from quant.recipe import Recipe

BF16, UNFUSED, FUSED = "bf16", "quantized", "quantized and fused"


class Prediction(NamedTuple):
    """Predicted times; nothing in here was measured.

    Attributes:
        model: whose block, with the tokens reckoned with.
        recipe: its name.
        gpu: for which.
        batch: samples.
        variants: `BF16`, `UNFUSED` and `FUSED`, each with the time of every operation.
        notes: what the recipe says of other blocks.
    """

    model: Model
    recipe: str
    gpu: Gpu
    batch: int
    variants: dict[str, tuple[Predicted, ...]]
    notes: tuple[str, ...]

    def seconds(self, variant: str) -> float:
        """Predicted seconds of the block."""
        return total(self.variants[variant])

    def speedup(self, variant: str) -> float:
        """How many times as fast as bf16 the variant is predicted to be."""
        return self.seconds(BF16) / self.seconds(variant)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "what": "prediction",
            "how": "roofline model, nothing was measured",
            "model": self.model._asdict(),
            "block": self.model.block,
            "recipe": self.recipe,
            "batch": self.batch,
            "gpu": {
                **self.gpu._asdict(),
                "rates": {name: rate._asdict() for name, rate in self.gpu.rates.items()},
            },
            "notes": list(self.notes),
            "predicted": {
                name: {
                    "seconds": total(found),
                    "speedup": self.speedup(name),
                    "seconds_by_kind": by_kind(found),
                    "operations": [
                        {**each.operation._asdict(), "seconds": each.seconds, "bound": each.bound} for each in found
                    ],
                }
                for name, found in self.variants.items()
            },
        }


def predict(model: Model, recipe: Recipe, gpu: Gpu, *, batch: int = 1) -> Prediction:
    """The times of a block.

    Args:
        model: with the tokens wanted.
        recipe: what is done to it.
        gpu: where.
        batch: samples.

    Raises:
        QuantError: the recipe quantizes nothing in the block, or the GPU cannot multiply such numbers.
    """
    decided = decide(model, recipe)
    variants = {
        BF16: block_operations(model, {}, batch=batch),
        UNFUSED: block_operations(model, decided.layer_formats, batch=batch),
        FUSED: block_operations(model, decided.layer_formats, batch=batch, fused=True),
    }
    predicted = {name: predict_operations(found, gpu) for name, found in variants.items()}
    return Prediction(model, recipe.name, gpu, batch, predicted, decided.notes)


def predict_for_device(model: Model, recipe: Recipe, device: str, *, batch: int = 1) -> Prediction | str:
    """Predicts as `predict` for a GPU by the name that CUDA gives it; returns the reason in words where it cannot."""
    gpu = of_device(device)
    if gpu is None:
        return f"the rates of {device} are not known"
    try:
        return predict(model, recipe, gpu, batch=batch)
    except QuantError as error:
        return str(error)
