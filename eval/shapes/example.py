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


def read_lines(path: Path) -> list[str]:
    """The lines of a prompt file that hold text. Raises QuantError where there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise QuantError(f"{path}: cannot be read as a prompt file: {error.strerror}") from None
    if not lines:
        raise QuantError(f"{path}: no prompts in it; write one a line")
    return lines
