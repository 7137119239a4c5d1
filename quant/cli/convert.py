"""`quant convert`."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quant.cli.options import DTYPE, NAME, PATH, force_option, full_option, shard_size_option
from quant.files.model_paths import DENOISERS

if TYPE_CHECKING:
    from quant.api.calibrate import Calibrated

#: Parameters of glibc's mallopt(3).
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
#: Bytes of weights that are read while Python still loads torch, so that a disk does not wait for that.
_AHEAD = 4 << 30


@click.command()
@click.argument("source", type=NAME, metavar="SRC")
@click.option("--scheme", metavar="NAME", help="Numbers of every Linear in the model's blocks, such as FP8_DYNAMIC.")
@click.option("--recipe", type=NAME, metavar="NAME|FILE", help="Instead: a recipe that needs no data.")
@click.option("--out", required=True, type=PATH, metavar="DIR", help="The folder to make.")
@click.option("--sparsity", metavar="2:4", help="Of every four weights keep the two largest; with or without --scheme.")
@click.option(
    "--ranges",
    type=click.Choice(["max", "mse"]),
    default="max",
    show_default=True,
    help="Scales by the largest weight, or by the least squared error: for 4 bits, several times slower.",
)
@click.option(
    "--config",
    type=NAME,
    metavar="DIR|ID",
    help="Where the config.json of the model's class is, if not next to SRC: a folder of diffusers, or a hub id.",
)
@full_option
@force_option
@click.option(
    "--dtype",
    type=DTYPE,
    default="bfloat16",
    show_default=True,
    help="Of everything that is not packed, where SRC names its class; else that stays as it is.",
)
@shard_size_option
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def convert(
    source: str,
    scheme: str | None,
    recipe: str | None,
    out: Path,
    sparsity: str | None,
    ranges: str,
    config: str | None,
    full: bool,
    force: bool,
    dtype: str,
    shard_size: int,
    quiet: bool,
) -> None:
    """Quantize the weights in SRC without any data, reading each once, in half a gigabyte of memory.

    SRC is a safetensors file, a folder of them with or without config.json, a diffusers component or pipeline, a
    transformers model, or a hub id. Models in their authors' names become diffusers' where --config, the folder or the
    hub has their config; FP8 codes are read with their scales, and those of llm-compressor and ModelOpt are written as
    they are where the scheme is the same. No model is run.

    Schemes: FP8_DYNAMIC, FP8_BLOCK, W8A8, W8A16, W4A16, W4A16_ASYM, W4A8, W4AFP8. 8 bits are close to the original
    without data; for 4 bits and for 2:4 calibrate with prompts instead where quality counts: quant calibrate. Where
    groups of 128 do not fit, groups of 64 or 32 are used; layers that none fit are kept.

    DIR appears when it is complete. A conversion that is killed goes on at the file where it was when the same command
    is given again.

    \b
    Examples:
      quant convert ./wan --scheme FP8_DYNAMIC --full --out wan-fp8
      quant convert ./wan/transformer --scheme W4A16 --ranges mse --out wan-int4
      quant convert model.safetensors --scheme W8A8 --out model-int8
      quant convert wan2.1_t2v.safetensors --config ./wan --scheme W8A8 --out wan8
    """
    begun = time.monotonic()
    _keep_memory()
    threading.Thread(target=_read_ahead, args=(Path(source),), daemon=True).start()
    import torch

    import quant

    made = quant.convert(
        source,
        out,
        scheme=scheme,
        recipe=recipe,
        sparsity=sparsity,
        ranges=ranges,
        config=config,
        full=full,
        force=force,
        dtype=getattr(torch, dtype),
        max_shard_bytes=shard_size,
        progress=not quiet,
    )
    if not quiet:
        click.echo("\n".join(_summary(made)))
    click.echo(f"wrote {out} in {time.monotonic() - begun:.1f} s; look into it with: quant inspect {out}")


def _keep_memory() -> None:
    """Asks glibc to keep the memory of pieces instead of giving it back and taking it anew, which stops all threads."""
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 26)
        mallopt(_TRIM_THRESHOLD, 1 << 26)


def _summary(made: Calibrated) -> list[str]:
    """How many layers became what, and why the others were kept."""
    from quant.kernels.cpu.encode_rows import unavailable

    lines = []
    for component, records in made.layers.items():
        schemes = Counter(record["scheme"] for record in records if record["scheme"] is not None)
        kept = Counter(record["reason"] for record in records if record["scheme"] is None)
        lines += [f"{component or 'model'}: {count} layers {scheme}" for scheme, count in schemes.items()]
        lines += [f"{component or 'model'}: {count} layers kept: {reason}" for reason, count in kept.items()]
    missing = unavailable()
    if missing is not None:
        lines.append(f"note: weights were encoded by torch, which takes longer: {missing}")
    return lines


def _read_ahead(source: Path) -> None:
    """Has the system read the first weights; whatever cannot be read is for the conversion to say."""
    if not hasattr(os, "posix_fadvise"):
        return
    left, step = _AHEAD, 1 << 26
    with suppress(OSError, ValueError):
        folders = [source, *(source / name for name in DENOISERS)]  # a pipeline's other components are not read
        found = [path for folder in folders for path in sorted(folder.glob("*.safetensors"))]
        for path in [source] if source.is_file() else found:
            with path.open("rb") as file:
                for start in range(0, min(path.stat().st_size, left), step):
                    os.posix_fadvise(file.fileno(), start, step, os.POSIX_FADV_WILLNEED)
                    left -= step
