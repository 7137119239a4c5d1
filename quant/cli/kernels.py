"""`quant kernels`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quant.cli.options import PATH
from quant.kernels.runtime.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from quant.api.tune import Size
    from quant.kernels import tuning
    from quant.kernels.matmuls.base import Tile

_ARCHITECTURES = tuple(ARCHITECTURES)
_SIZE = click.IntRange(1, 2**31 - 1)


@click.group(invoke_without_command=True)
@click.pass_context
def kernels(ctx: click.Context) -> None:
    """List the CUDA kernels, the GPUs they run on, and whether this machine can run them.

    \b
    quant kernels explain --m 32760 --n 5120 --k 5120 --scheme w8a8 --arch sm_80
    quant kernels tune wan-int8 --m 32760
    quant kernels cost sm90_fp8_gemm
    """
    if ctx.invoked_subcommand is not None:
        return
    from quant.api.explain import overview
    from quant.cli.tables import aligned

    here, rows = overview()
    for line in aligned([("kernel", "what it does", "dtypes", *_ARCHITECTURES), *rows]):
        click.echo(line)
    click.echo(f"\n{here}")


@kernels.command()
@click.option("--m", type=_SIZE, required=True, help="Rows of the input: tokens of a batch.")
@click.option("--n", type=_SIZE, required=True, help="Output features.")
@click.option("--k", type=_SIZE, required=True, help="Input features.")
@click.option("--scheme", required=True, help="Of the layer, such as W8A8 or FP8_DYNAMIC.")
@click.option("--sparse", is_flag=True, help="The weight is 2:4 sparse.")
@click.option("--arch", type=click.Choice(_ARCHITECTURES), help="A GPU's architecture.  [default: this machine]")
@click.option("--kernel", metavar="NAME", help="Fail with the reason unless this one can run.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def explain(
    m: int, n: int, k: int, scheme: str, sparse: bool, arch: str | None, kernel: str | None, as_json: bool
) -> None:
    """Say which kernels a layer would run by, with which tile, and why the others would not.

    sm_80 is an A100, sm_86 an RTX 30 or A6000, sm_89 an RTX 40 or L40, sm_90a an H100 or H200.
    """
    from quant.api.explain import explain as explain_layer
    from quant.api.explain import require
    from quant.formats.layer import LayerFormat
    from quant.formats.scheme import Scheme
    from quant.formats.table import misfit

    layer_format = LayerFormat(Scheme.parse(scheme, "--scheme"), sparse=sparse)
    reason = misfit(layer_format, n, k)
    if reason is not None:
        raise click.UsageError(reason)
    found = explain_layer(layer_format, m, n, k, arch=arch)
    if kernel is not None:
        require(found, kernel)
    if as_json:
        click.echo(json.dumps([each.to_dict() for each in found], indent=1))
        return
    for each in found:
        chosen = "none" if each.chosen is None else each.chosen.name
        click.echo(f"{each.op}: {chosen}" + ("" if each.note is None else f"; {each.note}"))
        width = max(len(option.name) for option in each.options)
        for option in each.options:
            mark = "runs" if option == each.chosen else "could run" if option.refusal is None else "no"
            click.echo(f"  {option.name:{width}} {mark:9} {option.refusal or option.tile}".rstrip())


@kernels.command()
@click.argument("kernel", required=False)
@click.option("--arch", type=click.Choice(_ARCHITECTURES), help="A GPU's architecture.  [default: each]")
@click.option("--size", "given", nargs=3, type=_SIZE, multiple=True, metavar="M N K", help="A size; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, and what is assumed of the hardware.")
def cost(kernel: str | None, arch: str | None, given: Sequence[tuple[int, int, int]], as_json: bool) -> None:
    """Count from its machine code what a matmul KERNEL takes: nothing is run or measured, and no GPU is needed.

    For the tile that each size would take and everything that may follow the matmul: instructions and clocks of a step
    of the main loop, and what limits it; those of a tile's epilogue; and the share of the tensor cores' peak that is
    left with both. Sizes are by default those of the video tokens of Wan2.1 14B.

    It needs NVRTC and nvdisasm (pip install nvidia-cuda-nvdisasm), and takes seconds for each build.
    """
    from quant.api.cost import counted, wanted
    from quant.cli.tables import aligned
    from quant.eval.bench.sizes import VIDEO, layers, models

    model = models()["wan-14b"]
    tokens = model.rows(VIDEO, 1)
    sizes = given or [(tokens, layer.n, layer.k) for layer in layers(model) if layer.stream == VIDEO]
    found = counted(wanted(kernel, arch, sizes))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    click.echo(found.label)
    head = ("kernel", "arch", "M", "N", "K", "tile", "ending", "loop", "step", "limit", "epilogue", "clocks", "of peak")
    rows = [
        (
            each.case.kernel.name,
            each.case.architecture.name,
            *map(str, each.case.size),
            str(each.case.tile),
            each.case.ending.name,
            f"{each.counted.instructions:.0f}",
            f"{each.clocks.step:.0f}",
            each.limit,
            str(each.counted.epilogue_instructions),
            f"{each.clocks.epilogue:.0f}",
            f"{each.clocks.share:.0%}",
        )
        for each in found.costs
    ]
    for line in aligned([head, *rows], figures=(2, 3, 4, 7, 8, 10, 11, 12)):
        click.echo(line)
    click.echo("\nloop, epilogue: instructions of a warp, for a step and for a tile; step, clocks: of the block")


@kernels.command()
@click.argument("folder", required=False, type=PATH, metavar="[DIR]")
@click.option("--m", "rows", type=_SIZE, multiple=True, help="Tokens of a batch; may be repeated, with DIR.")
@click.option("--size", "given", nargs=3, type=_SIZE, multiple=True, metavar="M N K", help="A size; may be repeated.")
@click.option("--scheme", help="Of the sizes given, such as W8A8, W4A16 or UNQUANTIZED with --sparse.")
@click.option("--sparse", is_flag=True, help="The weights of the sizes given are 2:4 sparse.")
@click.option("--out", type=PATH, help="The table to write.  [default: one in your cache]")
def tune(
    folder: Path | None,
    rows: Sequence[int],
    given: Sequence[tuple[int, int, int]],
    scheme: str | None,
    sparse: bool,
    out: Path | None,
) -> None:
    """Measure every tile on this machine's GPU and remember the fastest, for the layers of the checkpoint DIR.

    What is remembered in your cache is used from then on, for any number of tokens near the ones measured: of a W4A16
    layer measure few tokens too, which run by another kernel. With --out it is only written: kernels/tiles of a
    checkout is where a table that ships belongs.
    """
    from quant.api.tune import layer_sizes
    from quant.api.tune import tune as tune_sizes

    alone = folder is None and bool(given) and bool(scheme)
    if not alone and (folder is None or given or scheme or sparse or not rows):
        raise click.UsageError("give DIR and --m, or --size and --scheme")
    sizes = _sizes(given, str(scheme), sparse) if folder is None else layer_sizes(folder, rows)
    click.echo(f"wrote {tune_sizes(sizes, out, _tell, _tell_left_out)}")


def _sizes(given: Sequence[tuple[int, int, int]], scheme: str, sparse: bool) -> list[Size]:
    """Those on the command line. Raises click.UsageError for a weight that the scheme does not fit."""
    from quant.api.tune import Size
    from quant.formats.layer import LayerFormat
    from quant.formats.scheme import Scheme
    from quant.formats.table import misfit

    layer_format = LayerFormat(Scheme.parse(scheme, "--scheme"), sparse=sparse)
    sizes = [Size(layer_format, *each) for each in given]
    for size in sizes:
        reason = misfit(layer_format, size.n, size.k)
        if reason is not None:
            raise click.UsageError(reason)
    return sizes


def _tell(size: tuning.Size, times: dict[Tile, float]) -> None:
    best, slowest = min(times, key=lambda tile: times[tile]), max(times.values())
    rate = 2 * size.m * size.n * size.k / times[best] / 1e12
    click.echo(
        f"{size.kernel} M {size.m} N {size.n} K {size.k}: {best}, {times[best] * 1e3:.3f} ms, {rate:.0f} TOPS; "
        f"the slowest of {len(times)} takes {slowest / times[best]:.2f}x"
    )


def _tell_left_out(size: Size) -> None:
    layer_format, m, n, k = size
    click.echo(f"{layer_format.label} M {m} N {n} K {k}: left out, no kernel with tiles runs it here")
