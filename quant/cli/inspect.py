"""`quant inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from quant.cli.options import PATH


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, one entry a layer.")
@click.option("--layers", "every_layer", is_flag=True, help="One line for every layer, blocks not merged.")
def inspect(folder: Path, as_json: bool, every_layer: bool) -> None:
    """Show what a checkpoint holds: layers with scheme, bits per weight, bytes and weight error, totals, and kernels.

    Reads headers and the manifest only. The weight error is ||W - W_stored|| / ||W||, taken when it was made. The last
    table says which kernel each GPU architecture runs the layers by; `quant kernels explain` says why.
    """
    import quant
    from quant.cli.tables import component_table, kernel_table, provenance_lines

    found = quant.inspect(folder)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    for component in found.components:
        click.echo(component_table(component, every_layer=every_layer))
        click.echo()
        click.echo(kernel_table(component, every_layer=every_layer))
        click.echo()
    click.echo(provenance_lines(found))
