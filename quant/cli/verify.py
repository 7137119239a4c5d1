"""`quant verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quant.cli.options import PATH
from quant.text import printable

if TYPE_CHECKING:
    from quant.api.checks import Check
    from quant.api.verify import Verified


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="What was found as one JSON object; docs/verify.md has its keys.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.pass_context
def verify(ctx: click.Context, folder: Path, as_json: bool, quiet: bool) -> None:
    """Check everything of a checkpoint that can be checked, and list all that is wrong.

    Every file's size and SHA-256 against quant_manifest.json, where there is one; headers, index and shards of
    safetensors; config.json against the hash of it that the weights hold; the tensors of every layer against what
    config.json says, and all others against the model's class; values: weights are finite, scales above zero and
    finite, FP8 codes numbers, 2:4 layers 2:4.

    DIR is a checkpoint of quant, one component of it, or one of another writer of compressed-tensors. Each byte is read
    once; nothing is written.

    \b
    A line begins with
      ok    looked at, and nothing is wrong
      note  there was nothing to compare with, so a change would not be seen
      FAIL  a fault; 20 of each check are listed, the rest are counted
    Exit status: 0 sound, 1 faults were found, 2 DIR is no quantized checkpoint.

    \b
    Examples:
      quant verify wan-int8
      quant verify wan-int8/transformer --json | jq .sound
    """
    import quant

    found = quant.verify(folder, progress=not quiet)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        several = any(check.component for check in found.checks)
        for check in found.checks:
            for line in _lines(check, several):
                click.echo(printable(line))
        click.echo(_verdict(found))
    ctx.exit(0 if found.sound else 1)


def _lines(check: Check, several: bool) -> list[str]:
    """The lines of a check; one for each fault where there are any."""
    name = check.component or ("(others)" if several else "(model)")
    if not check.faults:
        return [f"{check.status:4} {name}  {check.text}"]
    more = [f"FAIL {name}  and {check.more:,} more faults of this kind"] if check.more else []
    return [*(f"FAIL {fault}" for fault in check.faults), *more]


def _verdict(found: Verified) -> str:
    if not found.sound:
        return f"{found.count:,} fault{'' if found.count == 1 else 's'}: make the checkpoint again, or copy it again"
    left = any(check.status == "note" for check in found.checks)
    return "sound, as far as it can be compared; see the notes" if left else "sound: every check passed"
