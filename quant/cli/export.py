"""`quant export`."""

from __future__ import annotations

from pathlib import Path

import click

from quant.cli.options import NAME, PATH, force_option, shard_size_option


class _Command(click.Command):
    """Has every layout at the end of its help, read only when that is shown: the table needs torch."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from quant.exporting.table import DESTINATIONS

        with formatter.section("Layouts"):
            formatter.write_dl([(each.name, each.summary) for each in DESTINATIONS])


@click.command(cls=_Command)
@click.argument("checkpoint", type=PATH, metavar="DIR")
@click.option("--to", required=True, type=NAME, metavar="LAYOUT", help="Whose layout: see below.")
@click.option("--out", required=True, type=PATH, metavar="OUT", help="The folder to make.")
@click.option("--component", type=NAME, metavar="NAME", help="Which, where DIR has several, such as transformer_2.")
@click.option("--config", type=NAME, metavar="DIR|ID", help="Where the config.json of the class of a file is.")
@force_option
@shard_size_option
def export(
    checkpoint: Path, to: str, out: Path, component: str | None, config: str | None, force: bool, shard_size: int
) -> None:
    """Write a quantized checkpoint in another program's layout, with the same codes and scales, bit for bit.

    DIR is what quant convert or quant calibrate made, or llm-compressor or ModelOpt did, or a file of ComfyUI's with
    --config: exported to compressed-tensors, their codes and static scales run here as they are. A layer that a
    layout cannot hold exactly is refused, with a scheme that it can: smoothed layers and those with a low-rank branch
    anywhere, for no other program multiplies by what they need. What an engine computes with the codes is its own;
    see docs/export.md. Authors' names are known of Wan, HunyuanVideo and LTX.

    OUT appears when it is complete, with a SHA-256 of each file in quant_manifest.json.

    \b
    Examples:
      quant convert ./wan --scheme W8A8 --out wan-int8
      quant export wan-int8 --to comfyui --out wan-int8-comfy     # wan-int8-comfy/wan-int8-comfy.safetensors
      quant export wan-fp8 --to modelopt --out wan-fp8-modelopt
      quant export wan_fp8_scaled.safetensors --config ./wan --to compressed-tensors --out wan-theirs
    """
    import quant

    made = quant.export(
        checkpoint, out, to=to, component=component, config=config, force=force, max_shard_bytes=shard_size
    )
    click.echo(f"{made.layers} layers as they were stored, {made.kept} Linears not quantized")
    click.echo(f"wrote {', '.join(str(out / name) for name in made.files)}")
