"""The models that the project trains itself, in `examples` of a clone: each a pipeline folder and prompts for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import quant
from quant.errors import QuantError


@dataclass(frozen=True)
class Example:
    """A pipeline folder, prompts for its videos, and other prompts to calibrate on; paths within `examples`."""

    name: str
    model: Path
    prompts: Path
    calibration: Path

    @classmethod
    def within(cls, name: str) -> Example:
        """An example whose files are where every one has them."""
        return cls(
            name, Path(name, "model"), Path(name, "prompts", "judged.txt"), Path(name, "prompts", "calibration.txt")
        )


#: What `quant demo --example` takes, the first by default.
EXAMPLES = (Example.within("shapes"),)


def example(name: str = EXAMPLES[0].name) -> Example:
    """The example of that name, with the paths that it has in the clone which this package runs from.

    Raises:
        QuantError: there is none, or the package was installed without its repository.
    """
    known = {each.name: each for each in EXAMPLES}
    if name not in known:
        raise QuantError(f"'{name}' is no example: choose from {', '.join(known)}")
    found, folder = known[name], Path(quant.__file__).resolve().parent.parent / "examples"
    if not (folder / found.model).is_dir():
        raise QuantError(
            f"{folder / found.model}: no such folder; the example comes with the repository, not with the package: "
            "clone it, or give --model, --prompts and --calibration"
        )
    return Example(name, folder / found.model, folder / found.prompts, folder / found.calibration)
