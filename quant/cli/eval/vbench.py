"""`quant eval vbench`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="RUN")
@click.option(
    "--dimension", "dimensions", multiple=True, metavar="NAME", help="May be given often.  [default: all six]"
)
def vbench(folder: Path, dimensions: tuple[str, ...]) -> None:
    """Rate the videos of the run in the folder RUN by VBench, and write RUN/vbench.json.

    VBench is started by uvx in an environment of its own, since its requirements are old; it needs CUDA and downloads
    its networks. Its dimensions for any video: subject_consistency, background_consistency, motion_smoothness,
    dynamic_degree, aesthetic_quality, imaging_quality.
    """
    from quant.cli.progress import StepBars
    from quant.cli.tables import aligned
    from quant.eval.metrics.vbench import DIMENSIONS, run_vbench
    from quant.eval.results.schema import read_results
    from quant.eval.storage.files import write_json

    results = read_results(folder)
    samples = [sample["id"] for sample in results["samples"]]
    names = [model["name"] for model in results["models"] if not model["failed"]]
    chosen = dimensions or DIMENSIONS
    with StepBars() as bars:
        found = {
            name: run_vbench(
                folder / "videos" / name,
                samples,
                dimensions=chosen,
                progress=lambda what, done, total, name=name: bars.show(name, done, total),  # type: ignore[misc]
            )
            for name in names
        }
    write_json(folder / "vbench.json", found)
    rows = [("", *chosen), *((name, *(f"{found[name][each]['score']:.4f}" for each in chosen)) for name in names)]
    click.echo("\n".join(aligned(rows, figures=range(1, len(chosen) + 1))))
    click.echo(f"\nwrote {folder / 'vbench.json'}")
