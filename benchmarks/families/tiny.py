"""What recipes do to a model that runs: a tiny one is quantized, run, saved, loaded and run again."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import quant
from benchmarks.families.denoiser import Denoiser, outputs
from quant.text import first_line

#: Seeds of the inputs that recipes calibrate on, and of the one that they are judged by.
CALIBRATION, JUDGED = (1, 2), 0


def trial(denoiser: Denoiser, recipe: str, folder: Path) -> dict[str, Any]:
    """Quantizes a tiny model, runs it, writes it to `folder`, which must not exist, and loads it.

    Returns:
        `error`, ||y - y_dense|| / ||y_dense|| over all outputs; or only `reason`, why it cannot be done.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = denoiser.make_tiny()
        dense = run(denoiser, model)
        try:
            made = quant.quantize(model, recipe, forward_loop=lambda m: _calibrate(denoiser, m), progress=False)
            found = run(denoiser, made)
            quant.save(made, folder)
            loaded = quant.load(folder)
            if not _same(list(made.state_dict().values()), list(loaded.state_dict().values())):
                return {"reason": "loaded, it has other tensors"}
            # Where a file's tensors lie decides the last bit of a matmul: the copy's are in memory of their own.
            if not _same(found, run(denoiser, copy.deepcopy(loaded))):
                return {"reason": "loaded, it gives other outputs"}
        except quant.QuantError as error:
            return {"reason": first_line(error)}
        except Exception as error:  # a defect, which the table has to show
            return {"reason": f"{type(error).__name__}: {first_line(error)}"}
    return {"error": float(f"{_distance(found, dense):.3g}")}


def run(denoiser: Denoiser, model: nn.Module) -> list[Tensor]:
    """Outputs for the judged inputs."""
    return outputs(model(**denoiser.inputs(model, JUDGED)))


def _calibrate(denoiser: Denoiser, model: nn.Module) -> None:
    for seed in CALIBRATION:
        model(**denoiser.inputs(model, seed))


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    # As bytes: torch does not compare FP8 tensors.
    return torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))


def _distance(found: list[Tensor], dense: list[Tensor]) -> float:
    lost = sum((a.double() - b.double()).square().sum() for a, b in zip(found, dense, strict=True))
    power = sum(b.double().square().sum() for b in dense)
    return float(torch.as_tensor(lost / power).sqrt())
