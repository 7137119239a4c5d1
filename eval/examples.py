"""The models that the project trains itself, in `examples` of a clone: each a pipeline folder and inputs for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import quant
from quant.errors import QuantError

#: Videos of a demo where nobody says how many.
CLIPS = 8


@dataclass(frozen=True)
class Example:
    """A pipeline folder, inputs for its videos, and other inputs to calibrate on; paths within `examples`.

    Inputs are a file of prompts, or a table whose columns are arguments of the pipeline's call. `clips` is how many
    videos its demo makes.
    """

    name: str
    model: Path
    inputs: Path
    calibration: Path
    clips: int = CLIPS

    @classmethod
    def of_prompts(cls, name: str, folder: str) -> Example:
        """One that makes videos from prompts, with its files where every folder has them."""
        prompts = Path(folder, "prompts")
        return cls(name, Path(folder, "model"), prompts / "judged.txt", prompts / "calibration.txt")


#: What `quant demo --example` takes, the first by default. Of the edits each fourth is one of the background, so nine
#: of them, spread over the table, have some of those.
EXAMPLES = (
    Example.of_prompts("shapes", "shapes"),
    Example(
        "gen1",
        Path("gen1", "editor"),
        Path("gen1", "inputs", "judged.jsonl"),
        Path("gen1", "inputs", "calibration.jsonl"),
        clips=9,
    ),
    Example.of_prompts("gen1-text", "gen1"),
)


def example(name: str = EXAMPLES[0].name) -> Example:
    """The example of that name, with the paths that it has in the clone which this package runs from.

    Raises:
        QuantError: there is none, its model is not there, or the package was installed without its repository.
    """
    known = {each.name: each for each in EXAMPLES}
    if name not in known:
        raise QuantError(f"'{name}' is no example: choose from {', '.join(known)}")
    found, folder = known[name], Path(quant.__file__).resolve().parent.parent / "examples"
    script = folder / found.model.parts[0] / "train.py"
    model = folder / found.model
    if not (model / "model_index.json").is_file():
        if script.is_file():
            raise QuantError(f"{model}: the model of this example is not here: python {script} makes it")
        raise QuantError(
            f"{model}: no such folder; the example comes with the repository, not with the package: clone it, or give "
            "--model, --prompts or --inputs, and --calibration"
        )
    return replace(found, model=model, inputs=folder / found.inputs, calibration=folder / found.calibration)
