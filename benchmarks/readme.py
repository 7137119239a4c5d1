"""Writes the measured figures into the READMEs: `python -m benchmarks.readme`.

Between `<!-- figures: NAME -->` and `<!-- end -->` stands what is made here from a file; a test makes it again and
compares, so no figure can outlive its measurement. `make bench` measures again; the demo leaves its figures in
`demo/results.json`, from where they are copied to `benchmarks/results/demo.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from quant.eval.report.table import NOT_A_KERNEL, as_markdown, table
from quant.eval.results import read_results

ROOT = Path(__file__).parent.parent
READMES = (ROOT / "README.md", ROOT / "examples" / "shapes" / "README.md")
_SECTION = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def demo() -> str:
    """The demo's table, from `benchmarks/results/demo.json`."""
    results = read_results(ROOT / "benchmarks" / "results" / "demo.json")
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"{as_markdown(table(results))}\n\n"
        f"PSNR in dB against the original, on raw frames of {len(results.samples)} clips from the same seeds and "
        f"initial latents; s/step for a batch of {results.batch}, {NOT_A_KERNEL}. {versions}."
    )


def judged() -> str:
    """What judge.py found, from `examples/shapes/judged.json`."""
    report = json.loads((ROOT / "examples" / "shapes" / "judged.json").read_text(encoding="utf-8"))
    names = list(report["generated"])
    rows = [["", *names], ["---", *("---:" for _ in names)]]
    labels = {"generated": "videos made from prompts", "reconstructed": "drawn clips, encoded and decoded"}
    for key, label in labels.items():
        rows.append([label, *(f"{report[key][name]:.1%}" for name in names)])
    return (
        "\n".join(f"| {' | '.join(row)} |" for row in rows)
        + f"\n\nOver {report['prompts']} prompts of combinations never trained on, seed {report['seed']}."
    )


FIGURES: dict[str, Callable[[], str]] = {"demo": demo, "judged": judged}


def rendered(text: str) -> str:
    """`text` with every section of figures made again."""
    return _SECTION.sub(lambda found: found.group(1) + FIGURES[found.group(2)]() + "\n" + found.group(3), text)


def main() -> None:
    for path in READMES:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
