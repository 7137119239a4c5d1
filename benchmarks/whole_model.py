"""Calibrates a whole Wan 1.3B of random weights on recorded calls, and measures its peak memory and its time.

`python -m benchmarks.whole_model` writes benchmarks/results/whole_model.json. The model is that of Wan 2.1 1.3B: 30
blocks, 1,536 channels, 8,960 in the feed-forward network. Calls are few and small, so that a CPU has done with them in
minutes; what is measured is that memory does not depend on the model. Model, calls and calibration are programs of
their own, so that the last one's peak is its own, reading and writing included.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import torch

import quant
from quant.calibration.calls import CallsWriter, Place
from quant.calibration.provenance import model_hash
from quant.pipelines.source import open_source

RESULTS = Path(__file__).parent / "results" / "whole_model.json"
#: As published, but for the weights.
WAN = {
    "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "text_dim": 4096,
    "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30, "cross_attn_norm": True,
}  # fmt: skip
COMPONENT = "transformer"


def make_model(folder: Path) -> None:
    """Writes the model, seeded, in bf16."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    WanTransformer3DModel(**WAN).save_pretrained(folder)


def record(model: Path, folder: Path, calls: int, frames: int) -> None:
    """Writes a recording of noise at evenly spaced timesteps, 16 x 16 latents a frame: 64 tokens."""
    writer, generator = CallsWriter(folder, "random"), torch.Generator().manual_seed(0)
    text = torch.randn(1, 128, int(str(WAN["text_dim"])), generator=generator).bfloat16()
    places = [Place(COMPONENT, 0, number, 0, 1000.0 - 1000 * number // calls) for number in range(calls)]
    for part in ("calls", "tensors"):
        (folder / part).mkdir(parents=True)
    for place in places:
        latents = torch.randn(1, 16, frames, 16, 16, generator=generator).bfloat16()
        arguments = {
            "hidden_states": latents, "timestep": torch.tensor([place.timestep]), "encoder_hidden_states": text,
            "return_dict": False,
        }  # fmt: skip
        writer.write(place, (), arguments)
    source = open_source(model)
    about = {
        "model": {"name": "random", "components": {COMPONENT: model_hash(source, COMPONENT)}},
        "inputs": [{"prompt": "noise"}], "settings": {}, "seed": 0, "steps_recorded": calls, "dtype": "bfloat16",
    }  # fmt: skip
    writer.finish(about, {COMPONENT: places})


def child(folder: str, recipe: str) -> None:
    """Calibrates, and prints what it took as JSON."""
    started = time.perf_counter()
    place = Path(folder)
    quant.calibrate(place / COMPONENT, recipe, place / "made", calls=place / "calls", device="cpu")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time(), "peak_bytes": peak})
    )


@click.command(help=__doc__)
@click.option("--recipe", default="w8a8-gptq", show_default=True)
@click.option("--calls", default=4, show_default=True)
@click.option("--frames", default=4, show_default=True, help="Of latents, 64 tokens each.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(recipe: str, calls: int, frames: int, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_model(place / COMPONENT)
        record(place / COMPONENT, place / "calls", calls, frames)
        nbytes = sum(path.stat().st_size for path in (place / COMPONENT).glob("*.safetensors"))
        given = [sys.executable, "-m", "benchmarks.whole_model", "child", folder, recipe]
        done = subprocess.run(given, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise click.ClickException(f"the calibration ends with status {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
    body = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "recipe": recipe, "calls": calls, "tokens": 64 * frames, "model_bytes": nbytes, **found,
    }  # fmt: skip
    out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    click.echo(f"{nbytes / 1e9:.1f} GB of weights: {found['seconds']:.0f} s, peak {found['peak_bytes'] / 1e9:.1f} GB")


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["child"] else main()
