"""Makes the gen1 pipeline again: `python examples/gen1/train.py`.

Stages, in order; each can be killed and started again, and one that is done is left alone:

    vae           the autoencoder of frames
    latents       clips in many colours, encoded
    unet          the denoiser and the text encoder, on latents of clips and of recoloured clips
    export        everything as bf16 safetensors, with a record of how it was made

`--work` holds checkpoints and logs; nothing in it is needed later.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
# The loop's parts (checkpoints, learning rate, Muon) are those of the first example.
sys.path.append(str(HERE.parent / "shapes"))

from stages.export import export  # noqa: E402
from stages.latents import make_latents  # noqa: E402
from stages.unet import UNetSettings, train_unet  # noqa: E402
from stages.vae import train_vae  # noqa: E402
from training.common import Folder, StageSettings, run_stages  # noqa: E402


def stages(work: Folder, processes: int, short: bool) -> dict[str, Callable[[], None]]:
    """Every stage by name. `short` runs a few steps of each: it shows that the script works, not what it reaches."""

    def steps(full: int) -> int:
        return 2 if short else full

    # Left off long before its schedule ends: by then the judge sees everything right in reconstructions.
    vae = StageSettings(steps(1600), batch=32 // processes, processes=processes, every=50, stop=steps(500))
    unet = UNetSettings(steps(3200), batch=4 if short else 24, processes=processes)
    scenes, heldout = (4, 4) if short else (1152, 48)
    return {
        "vae": lambda: train_vae(work, vae),
        "latents": lambda: make_latents(work, scenes, heldout),
        "unet": lambda: train_unet(work, unet),
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
