"""`quant kernels`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import torch

    from quant.kernels.tile_tables import AnyTile
    from quant.kernels.tuning import Size

_ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90a")
_SIZE = click.IntRange(1, 2**31 - 1)


@click.group(invoke_without_command=True)
@click.pass_context
def kernels(ctx: click.Context) -> None:
    """List the CUDA kernels, the GPUs they run on, and whether this machine can run them.

    \b
    quant kernels explain --m 32760 --n 5120 --k 5120 --scheme w8a8 --arch sm_80
    quant kernels tune wan-int8 --m 32760
    """
    if ctx.invoked_subcommand is not None:
        return
    from quant.cli.tables import aligned
    from quant.workflows.explaining import overview

    here, rows = overview()
    for line in aligned([("kernel", "what it does", "codes", *_ARCHITECTURES), *rows]):
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
    from quant.form import LayerForm, misfit
    from quant.scheme import Scheme
    from quant.workflows.explaining import explain as explain_layer
    from quant.workflows.explaining import require

    form = LayerForm(Scheme.parse(scheme, "--scheme"), sparse=sparse)
    reason = misfit(form, n, k)
    if reason is not None:
        raise click.UsageError(reason)
    found = explain_layer(form, m, n, k, arch=arch)
    if kernel is not None:
        require(found, kernel)
    if as_json:
        click.echo(json.dumps([each.to_dict() for each in found], indent=1))
        return
    for each in found:
        click.echo(f"{each.op}: {'none' if each.chosen is None else each.chosen.name}")
        for option in each.options:
            mark = "runs" if option == each.chosen else "could run" if option.refusal is None else "no"
            click.echo(f"  {option.name:16} {mark:9} {option.refusal or option.tile}".rstrip())


@kernels.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--m", "rows", type=_SIZE, multiple=True, help="Tokens of a batch; may be repeated, with DIR.")
@click.option("--size", "given", nargs=3, type=_SIZE, multiple=True, metavar="M N K", help="A size; may be repeated.")
@click.option("--scheme", help="Of the sizes given.")
@click.option("--out", type=click.Path(path_type=Path), help="The table to write.  [default: one in your cache]")
def tune(
    folder: Path | None,
    rows: Sequence[int],
    given: Sequence[tuple[int, int, int]],
    scheme: str | None,
    out: Path | None,
) -> None:
    """Measure every tile on this machine's GPU and remember the fastest, for the layers of the checkpoint DIR.

    What is remembered in your cache is used from then on, for any number of tokens near the ones measured. With --out
    it is only written: kernels/tiles of a checkout is where a table that ships belongs.
    """
    from quant.packing.eight_bit import storage_dtype
    from quant.scheme import Scheme
    from quant.workflows.tuning_kernels import layer_sizes
    from quant.workflows.tuning_kernels import tune as tune_sizes

    if (folder is None) == (not given) or bool(given) != bool(scheme) or (folder is not None and not rows):
        raise click.UsageError("give DIR and --m, or --size and --scheme")
    if folder is not None:
        sizes = layer_sizes(folder, rows)
    else:
        form = Scheme.parse(str(scheme), "--scheme")
        if form.weights is None or form.is_packed:
            raise click.UsageError(f"{form.name}: its matmul has no kernel with tiles")
        dtype = storage_dtype(form.weights)
        sizes = [(dtype, *size) for size in given]
    click.echo(f"wrote {tune_sizes(sizes, out, _tell, _tell_left_out)}")


def _tell(size: Size, times: dict[AnyTile, float]) -> None:
    best, slowest = min(times, key=lambda tile: times[tile]), max(times.values())
    rate = 2 * size.m * size.n * size.k / times[best] / 1e12
    click.echo(
        f"{size.kernel} M {size.m} N {size.n} K {size.k}: {best}, {times[best] * 1e3:.3f} ms, {rate:.0f} TOPS; "
        f"the slowest of {len(times)} takes {slowest / times[best]:.2f}x"
    )


def _tell_left_out(dtype: torch.dtype, m: int, n: int, k: int) -> None:
    click.echo(f"{dtype} M {m} N {n} K {k}: left out, no kernel with tiles runs it here")
