"""Where the shapes pipeline and its prompts are: in the repository, not in the installed package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import quant
from quant.errors import QuantError


@dataclass(frozen=True)
class Example:
    """A pipeline folder, prompts for its videos, and other prompts to calibrate on."""

    model: Path
    prompts: Path
    calibration: Path


def shapes_example() -> Example:
    """The example of the clone that this package runs from.

    Raises:
        QuantError: the package was installed without its repository.
    """
    folder = Path(quant.__file__).resolve().parent.parent / "examples" / "shapes"
    if not (folder / "model").is_dir():
        raise QuantError(
            f"{folder / 'model'}: no such folder; the example comes with the repository, not with the package: "
            "clone it, or give --model, --prompts and --calibration"
        )
    return Example(folder / "model", folder / "prompts" / "judged.txt", folder / "prompts" / "calibration.txt")
