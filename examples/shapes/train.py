"""Makes the shapes pipeline and its metric networks again: `python examples/shapes/train.py`.

Stages, in order; each can be killed and started again, and one that is done is left alone:

    vae           the video autoencoder
    transformer   the denoiser and the text encoder, by flow matching on the autoencoder's latents
    clip          a CLIPModel that matches frames with captions
    videomae      a VideoMAE that names every attribute of a clip
    export        everything as bf16 safetensors, with a record of how it was made

About an hour on two CPU cores. `--work` holds checkpoints and logs; nothing in it is needed later.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from training.clip import train_clip
from training.common import Folder, StageSettings, run_stages
from training.export import export
from training.transformer import TransformerSettings, train_transformer
from training.vae import train_vae
from training.videomae import train_videomae

HERE = Path(__file__).parent


def stages(work: Folder, processes: int, short: bool) -> dict[str, Callable[[], None]]:
    """Every stage by name. `short` runs a few steps of each: it shows that the script works, not what it reaches."""

    def steps(full: int) -> int:
        return 2 if short else full

    def batch(full: int) -> int:
        return 4 if short else full

    # Left off before its schedule ends: by then the judge sees everything right in reconstructions.
    vae = StageSettings(steps(3000), batch=4, stop=steps(2400), processes=processes)
    transformer = TransformerSettings(steps(3000), batch=batch(32), processes=processes)
    if short:
        transformer = replace(transformer, compile=False, clips=16, heldout=8)
    # One process, whatever was asked for: these are small enough, and so were the shipped ones trained.
    clip = StageSettings(steps(1200), batch=batch(48), processes=1)
    videomae = StageSettings(steps(1200), batch=batch(32), processes=1, muon_rate=0.03)
    return {
        "vae": lambda: train_vae(work, vae),
        "transformer": lambda: train_transformer(work, transformer),
        "clip": lambda: train_clip(work, clip),
        "videomae": lambda: train_videomae(work, videomae),
        "export": lambda: export(work, HERE if not short else work.path),
    }


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[STAGE]...")
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default=True)
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="One thread each.")
@click.option("--short", is_flag=True, help="Two steps a stage, and an export into --work: a trial of the script.")
def main(names: tuple[str, ...], work: Path, processes: int, short: bool) -> None:
    run_stages(stages(Folder(work), processes, short), names)


if __name__ == "__main__":
    main()
