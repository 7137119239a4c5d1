"""The example's videos made on a GPU by the kernels, against the same made on the CPU by the reference: paired PSNR.

The original is compared as well: what differs there is the GPU's float32, not a kernel.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

import quant
from benchmarks.gpu.bench import write_json
from benchmarks.psnr import summarize
from quant.eval.examples import example
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.tables import decibels
from quant.eval.videos.generation import generate, initial_latents
from quant.kernels.runtime import availability

#: INT8 and FP8 as the recipes without data have them: nothing is calibrated, so nothing beyond diffusers is needed.
RECIPES = {
    "int8": "version: 1\nsummary: INT8, one scale a channel and one a token\n"
    "groups:\n  - {targets: [Linear], scheme: W8A8}\n",
    "fp8": "version: 1\nsummary: FP8, one scale a channel and one a token\n"
    "groups:\n  - {targets: [Linear], scheme: FP8_DYNAMIC}\n",
}
CLIPS = 4


def compare(
    model: Path,
    prompts: Sequence[str],
    device: torch.device,
    *,
    steps: int | None = None,
    told: Callable[[str], object] = click.echo,
) -> dict[str, Any]:
    """Makes every prompt's video with each model on the CPU and on `device`.

    Args:
        model: a pipeline folder.
        prompts: one video each.
        device: to be compared with the CPU.
        steps: of denoising; None takes the model's own setting.
        told: called with a line after each model.

    Returns:
        As plain data: for the original and each scheme the PSNR of each video in dB (null: identical), the seconds
        that making them took on the device, and what the ops warned of there: which ones ran by no kernel.
    """
    settings = quant.GenerationSettings.read(model).merged(num_inference_steps=steps)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in ("original", *RECIPES):
            folder = model
            if name in RECIPES:
                folder = Path(work) / name
                quant.calibrate(model, quant.Recipe.from_yaml(RECIPES[name], name), folder, full=True, progress=False)
            pipeline = _pipeline(folder)
            call = settings.for_pipeline(pipeline)
            latents = initial_latents(pipeline, call, range(len(prompts)))
            on_cpu = generate(pipeline, prompts, latents, call, batch=len(prompts))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                begin = time.monotonic()
                there = generate(pipeline.to(device), prompts, latents, call, batch=len(prompts))
                seconds = time.monotonic() - begin
            psnr = paired_psnr(on_cpu, there)
            said = [str(each.message) for each in caught if "not by a kernel of quant" in str(each.message)]
            found[name] = {
                "psnr": [None if math.isinf(value) else value for value in psnr],
                "seconds": seconds,
                "not_by_a_kernel": said,
            }
            told(f"{name}: {len(psnr)} videos, the least alike to the CPU's: {_alike(summarize(psnr).minimum)}")
            for line in said:
                told(f"  {line}")
    return {"model": "/".join(model.resolve().parts[-2:]), "prompts": list(prompts), "made": found}


def _alike(psnr: float) -> str:
    return decibels(psnr) if math.isinf(psnr) else f"{decibels(psnr)} dB"


def _pipeline(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    import quant.diffusers  # noqa: F401  (teaches diffusers the checkpoints)

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The JSON file to write.")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps.  [default: the model's own]")
def main(out: Path, steps: int | None) -> None:
    device = torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0)
    reason = availability.reason(device)
    if reason is not None:
        raise click.ClickException(f"no GPU is usable: {reason}")
    # Both sides compute in float32 as it is.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    shapes = example()
    texts = shapes.inputs.read_text(encoding="utf-8").splitlines()
    prompts = [texts[i * len(texts) // CLIPS] for i in range(CLIPS)]
    write_json(compare(shapes.model, prompts, device, steps=steps), out)


if __name__ == "__main__":
    main()
