"""`quant eval`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quant.cli.eval.fetch import fetch
from quant.cli.eval.vbench import vbench
from quant.cli.options import INPUTS_HELP, generation_options, given_settings
from quant.cli.progress import StepBars, silence_loading
from quant.errors import QuantError
from quant.eval.networks.kinds import KINDS
from quant.text import printable

if TYPE_CHECKING:
    from quant.eval.inputs.config import EvaluationConfig


def _network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for each kind of network that metrics look through."""
    for kind in reversed(KINDS):
        which: dict[str, Any] = {"type": click.Choice(kind.choices)} if kind.choices else {"metavar": kind.metavar}
        command = click.option(f"--{kind.key}", multiple=kind.several, help=kind.help, **which)(command)
    return command


@click.group(name="eval")
def evaluate() -> None:
    """Compare quantized models with their original: videos, scores with intervals, speed, a report."""


evaluate.add_command(fetch)
evaluate.add_command(vbench)


@evaluate.command()
@click.argument("model")
@click.argument("candidates", nargs=-1, metavar="[CANDIDATE]...")
@click.option("--prompts", metavar="FILE", help="Prompts: a file, a folder, or a data set's id.")
@click.option("--inputs", metavar="FILE", help=INPUTS_HELP)
@click.option("--samples", type=click.IntRange(1), metavar="N", help="The first N prompts or rows.  [default: all]")
@click.option("--seed", type=click.IntRange(0), help="Of the first prompt; each next one adds 1.  [default: 0]")
@generation_options
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="What models compute in.")
@click.option("--device", metavar="NAME", help="Where it runs.  [default: cuda where there is one, else cpu]")
@click.option(
    "--references",
    metavar="SOURCE",
    help="Real clips, for distances to real videos: a folder, or a data set (file, folder or id) with a column video.",
)
@click.option("--reference-samples", type=click.IntRange(2), metavar="N", help="The first N clips.  [default: all]")
@_network_options
@click.option("--name", metavar="NAME", help="Of the run's folder.  [default: the model's or the config file's]")
@click.option("--gpu", metavar="NAME", help="Predict a step on this GPU, too; names are `quant bench block`'s.")
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="Videos each model is timed by.  [default: 5]")
@click.option("--compile", is_flag=True, help="Time denoisers under torch.compile.")
@click.option("--no-speed", is_flag=True, help="Time nothing.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluations"),
    show_default=True,
    metavar="DIR",
    help="The folder of runs; each is a folder in it.",
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
def run(model: str, candidates: tuple[str, ...], out: Path, quiet: bool, **options: Any) -> None:
    """Make the same videos with MODEL and each CANDIDATE, and score them; or do what CONFIG.yaml says.

    \b
    quant eval run ./wan wan-w8a8 wan-w4a8 --prompts prompts.txt --samples 64
    quant eval run CONFIG.yaml

    \b
    version: 1                            # CONFIG.yaml; its paths start from its folder
    model: ./wan
    candidates: {w8a8: ./wan-w8a8, w4a8: ./wan-w4a8}
    prompts: prompts.txt
    samples: 64
    seeds: [0]
    settings: {num_inference_steps: 20}
    metrics: {lpips: [alex], fvd: [i3d], clip: openai/clip-vit-base-patch32}
    speed: {rounds: 5, compile: false}    # or false

    Metric networks that are not named are those that `quant eval fetch` brought (I3D, LPIPS), or those in the folder
    `metric_networks` beside MODEL.

    Same prompts, seeds and initial latents for all. It may be interrupted at any moment: the same command, or
    `quant eval resume`, goes on where it was. Under torchrun its processes share the videos.
    """
    from quant.eval.runs.running import run_evaluation

    config, source = _config(model, candidates, options)
    command = shlex.join(["quant", *sys.argv[1:]])
    with _Bars(quiet) as bars:
        folder = run_evaluation(config, out, command=command, source=source, progress=bars.show)
    _finish(folder)


@evaluate.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="RUN")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def resume(folder: Path, quiet: bool) -> None:
    """Finish the run in the folder RUN."""
    from quant.eval.runs import running

    with _Bars(quiet) as bars:
        running.resume(folder, progress=bars.show)
    _finish(folder)


@evaluate.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True), metavar="A")
@click.argument("second", type=click.Path(path_type=Path, exists=True), metavar="[B]", required=False)
def compare(first: Path, second: Path | None) -> None:
    """Compare the candidates of a run with each other, or those of two runs of the same original.

    Of two runs the samples count that both have. B is called better than A, a tie, or worse by pairs of the same
    prompt and noise, corrected for how many comparisons there are.
    """
    from quant.cli.tables import aligned
    from quant.eval.results.comparing import between_runs, within_run
    from quant.eval.results.schema import read_results

    if second is None:
        rows, note = within_run(read_results(first), str(first))
    else:
        rows, note = between_runs(read_results(first), read_results(second), str(first), str(second))
    click.echo("\n".join(aligned(rows, figures=range(3, len(rows[0]) - 1))))
    click.echo()
    for line in note.splitlines():
        click.echo(printable(line))


def _config(model: str, candidates: tuple[str, ...], options: Mapping[str, Any]) -> tuple[EvaluationConfig, str | None]:
    """The configuration, and the text of its file where there is one."""
    from quant.eval.inputs.parsing import from_dict, named, read_config, read_text

    generation = ("height", "width", "num_frames", "num_inference_steps", "guidance_scale", "set")
    settings = given_settings({name: options[name] for name in generation}).given()
    if Path(model).suffix.lower() in (".yaml", ".yml"):
        given = [
            name
            for name, value in options.items()
            if value is not None and value is not False and value not in ((), {})
        ]
        if candidates or given:
            what = f"candidate {candidates[0]}" if candidates else f"option '{given[0]}'"
            raise QuantError(f"{model}: says all there is to do; move {what} into it")
        return read_config(Path(model)), read_text(Path(model))
    if not candidates or (options["prompts"] is None and options["inputs"] is None):
        raise QuantError("give MODEL, one CANDIDATE or more, and --prompts FILE or --inputs FILE; or one CONFIG.yaml")
    body = {
        "name": options["name"],
        "model": model,
        "candidates": named(candidates),
        "prompts": options["prompts"],
        "inputs": options["inputs"],
        "samples": options["samples"],
        "seeds": [options["seed"] or 0],
        "settings": settings,
        "dtype": options["dtype"],
        "device": options["device"],
        "references": options["references"],
        "reference_samples": options["reference_samples"],
        "metrics": {kind.key: list(value) if kind.several else value for kind in KINDS if (value := options[kind.key])},
        "speed": _speed(options),
    }
    return from_dict(body, source="command line", base=Path.cwd(), name=Path(model).resolve().name), None


def _speed(options: Mapping[str, Any]) -> dict[str, Any] | bool:
    given = {name: value for name in ("gpu", "rounds", "compile") if (value := options[name])}
    if options["no_speed"] and given:
        raise QuantError(f"--{next(iter(given))} says how to time, --no-speed that nothing is timed")
    return False if options["no_speed"] else given


def _finish(folder: Path) -> None:
    """The table of a finished run, and where its files are; renders the report where that is installed.

    Of several processes the first does it. Exits with status 1, and says so last, where a candidate failed.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    from quant.eval.results.schema import read_results
    from quant.eval.results.summary import notes, summary
    from quant.eval.tables import as_text

    results = read_results(folder)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(as_text(summary(results), width) + "\n")
    lacking = [f"no {each['metric']}: {each['why']}" for each in results["missing"]]
    for line in (*notes(results), *lacking):
        click.echo(printable(line))
    click.echo()
    click.echo(printable(f"results  {(folder / 'results.json').resolve()}"))
    click.echo(printable(f"videos   {(folder / 'videos').resolve()}"))
    try:
        from quant.eval.report.notebook import render

        page = render(folder)
    except (ImportError, QuantError) as error:
        click.echo(f"report   none: {error}; make it with `quant report {folder}`")
    else:
        click.echo(f"report   {printable(str(page.resolve()))}")
    failed = [f"{model['name']}: {model['failed']}" for model in results["models"] if model["failed"]]
    if failed:
        click.echo(printable(f"failed: {'; '.join(failed)}"), err=True)
        sys.exit(1)


class _Bars:
    """Progress bars, or none; of several processes, only the first has any."""

    def __init__(self, quiet: bool) -> None:
        self._bars = None if quiet or os.environ.get("RANK", "0") != "0" else StepBars()

    def show(self, what: str, done: int, total: int) -> None:
        if self._bars is not None:
            self._bars.show(what, done, total)

    def __enter__(self) -> _Bars:
        silence_loading()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if self._bars is not None:
            self._bars.__exit__(kind, *rest)
        if kind is KeyboardInterrupt:
            click.echo("\nstopped: the same command goes on after the last finished video", err=True)
