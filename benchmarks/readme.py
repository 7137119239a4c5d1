"""Writes the measured figures into the READMEs: `python -m benchmarks.readme`.

Between `<!-- figures: NAME -->` and `<!-- end -->` stands what is made here from a file; a test makes it again and
compares, so no figure can outlive its measurement. `make bench` measures again; the demo leaves its figures in
`demo/results.json`, from where they are copied to `benchmarks/results/demo.json`. `make gpu` measures a GPU, `make
families` what recipes do to every video model, and `make quality` what they cost; what of that `quant recipes` shows
goes into `recipes/expected.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import convert
from benchmarks.families import tables as families
from benchmarks.gpu import results
from benchmarks.gpu.table import section
from benchmarks.quality import table as quality
from benchmarks.quality.expected import EXPECTED, expected
from benchmarks.sass import table as sass
from quant import Sensitivity
from quant.api.explain import explain
from quant.eval.drawing.sensitivity import sensitivity_svg
from quant.eval.results.schema import read_results
from quant.eval.results.summary import summary
from quant.eval.tables import Table, as_markdown
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, UNQUANTIZED
from quant.kernels.prepacking import MANY_ROWS
from quant.kernels.runtime.architectures import ARCHITECTURES

ROOT = Path(__file__).parent.parent
GPU_README = ROOT / "benchmarks" / "README.md"
QUALITY = ROOT / "docs" / "quality.md"
CONVERT = ROOT / "docs" / "convert.md"
FAMILIES = ROOT / "docs" / "families.md"
EXAMPLES = tuple(ROOT / "examples" / name / "README.md" for name in ("shapes", "gen1"))
READMES = (ROOT / "README.md", *EXAMPLES, GPU_README, QUALITY, CONVERT, FAMILIES)
_SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


#: Columns of the demo's table that the README shows, each of which it explains.
_COLUMNS = ("model", "scheme", "of bf16", "PSNR dB", "SSIM", "as asked", "within 1%")


def demo() -> str:
    """The most telling columns of the demo's table, from `benchmarks/results/demo.json`."""
    found = read_results(ROOT / "benchmarks" / "results" / "demo.json")
    whole = summary(found)
    places = [whole.headings.index(heading) for heading in _COLUMNS]
    rows = tuple(tuple(row[place] for place in places) for row in whole.rows)
    versions = ", ".join(f"{name} {version}" for name, version in found["conditions"]["versions"].items())
    calibrated = max(model["calibration_prompts"] or 0 for model in found["models"])
    return (
        f"{as_markdown(Table(_COLUMNS, rows, words=2))}\n\n"
        "scheme: the numbers of weights (W) and inputs (A), in bits; FP8_DYNAMIC has both in FP8; of 2:4, two of four "
        "weights are zero. of bf16: bytes of the transformer as a share of what it takes in bf16. PSNR and SSIM: how "
        "near each clip is to the original's from the same noise, higher is nearer, 1 is the same SSIM; the mean, and "
        "its 95% interval. as asked: how often a clip shows what its prompt says, measured on its pixels. within 1%: "
        "whether the losses of all metrics are below that, with their intervals; else how many are not, or have too "
        f"few clips to say. {len(found['samples'])} clips, calibrated on {calibrated} other prompts; {versions}."
    )


def judged() -> str:
    """What judge.py found, from `examples/shapes/judged.json`."""
    labels = {"generated": "videos made from prompts", "reconstructed": "drawn clips, encoded and decoded"}
    return _judged("shapes", labels, {})


def gen1() -> str:
    """What judge.py found, from `examples/gen1/judged.json`."""
    labels = {
        "generated": "videos made from prompts",
        "edited": "edits, by the caption of the result",
        "edited_by_sentence": "edits, by a sentence",
        "reconstructed": "drawn clips, encoded and decoded",
    }
    return _judged("gen1", labels, {"motion_kept": "motion kept"})


def _judged(example: str, labels: Mapping[str, str], more: Mapping[str, str]) -> str:
    """A row for each of `labels`, the keys of what was judged; columns of every attribute, and of `more` where it has.

    Both map keys of `judged.json` to words.
    """
    report = json.loads((ROOT / "examples" / example / "judged.json").read_text(encoding="utf-8"))
    names = {name: name for name in report["generated"]} | dict(more)
    rows = [["", *names.values()], ["---", *("---:" for _ in names)]]
    for key, label in labels.items():
        rows.append([label, *(f"{report[key][name]:.1%}" if name in report[key] else "" for name in names)])
    return (
        "\n".join(f"| {' | '.join(row)} |" for row in rows)
        + f"\n\nOver {report['prompts']} prompts of combinations never trained on, seed {report['seed']}."
    )


def gpu() -> str:
    """What GPUs did, from every `benchmarks/results/gpu_*.json`."""
    return section(results.FOLDER)


def kernels() -> str:
    """Which GPU runs what by a kernel of this project, as `dispatch` has it."""
    rows = [["", *(f"{name} ({each.gpu})" for name, each in ARCHITECTURES.items())]]
    rows.append(["---"] * len(rows[0]))
    dense = {name: LayerFormat(SCHEMES[name]) for name in ("W8A8", "FP8_DYNAMIC", "W4A16", "W4A8", "W4AFP8")}
    sparse = {name: LayerFormat(SCHEMES[name], sparse=True) for name in ("W8A8", "FP8_DYNAMIC")}
    for what, layer_format, op, m in (
        ("activations to INT8", dense["W8A8"], 0, MANY_ROWS),
        ("activations to FP8", dense["FP8_DYNAMIC"], 0, MANY_ROWS),
        ("INT8 matmul", dense["W8A8"], -1, MANY_ROWS),
        ("FP8 matmul", dense["FP8_DYNAMIC"], -1, MANY_ROWS),
        ("INT4 weights, bf16 and fp16", dense["W4A16"], -1, MANY_ROWS),
        ("the same, up to 32 tokens", dense["W4A16"], -1, 32),
        ("INT4 weights, INT8", dense["W4A8"], -1, MANY_ROWS),
        ("INT4 weights, FP8", dense["W4AFP8"], -1, MANY_ROWS),
        ("2:4, bf16 and fp16", LayerFormat(SCHEMES[UNQUANTIZED], sparse=True), -1, MANY_ROWS),
        ("2:4, INT8", sparse["W8A8"], -1, MANY_ROWS),
        ("2:4, FP8", sparse["FP8_DYNAMIC"], -1, MANY_ROWS),
    ):
        found = (explain(layer_format, m, 1536, 1536, arch=arch)[op].chosen for arch in ARCHITECTURES)
        names = [f"`{each.name}`" if each is not None and each.name != "reference" else "PyTorch" for each in found]
        rows.append([what, *names])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


FIGURES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "judged": judged,
    "gen1": gen1,
    "gpu": gpu,
    "kernels": kernels,
    "convert": convert.table,
    **quality.FIGURES,
    **families.FIGURES,
    **sass.FIGURES,
}


def pictures() -> dict[Path, str]:
    """A picture in `docs` of every `benchmarks/results/sensitivity_*.json`."""
    files = sorted((ROOT / "benchmarks" / "results").glob("sensitivity_*.json"))
    return {
        ROOT / "docs" / f"{file.stem}.svg": sensitivity_svg(Sensitivity.from_json(file.read_text(encoding="utf-8")))
        for file in files
    }


def rendered(text: str) -> str:
    """`text` with every section of figures made again."""
    return _SECTION.sub(lambda found: found.group(1) + FIGURES[found.group(2)]() + "\n" + found.group(3), text)


def write(path: Path) -> None:
    """Makes the figures of one README again, in place."""
    path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    for path in READMES:
        write(path)
    EXPECTED.write_text(expected(), encoding="utf-8")
    for path, picture in pictures().items():
        path.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
