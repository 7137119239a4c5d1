"""What is disturbed: a command, what lies there before it, what it makes. A new one is one object in `SCENARIOS`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.tiny_pipeline import PROMPTS, save_pipeline

#: A pass over the prompts for each input of a feed-forward.
_PASSES = {
    "version": 1,
    "groups": [{"targets": ["re:.*ffn.*"], "scheme": "W8A8", "algorithm": "gptq"}],
    "calibration": {"samples": 2, "hessian_gb": 1e-6},
}


def _nothing(folder: Path) -> bool:
    return False


@dataclass(frozen=True)
class Scenario:
    """A command of `quant`, run in a folder of its own.

    Attributes:
        name: for what is printed.
        arguments: of the command.
        made: what it makes in its folder.
        source: what it reads there, and which may vanish.
        old: the recipe of a checkpoint that is there before; "" for none.
        kept: whether a run that was stopped has left something for the next, given the folder.
        one_by_one: its files appear one after the other, each whole, and those that are there are not made again.
    """

    name: str
    arguments: tuple[str, ...]
    made: str
    source: str = "model"
    old: str = ""
    kept: Callable[[Path], bool] = _nothing
    one_by_one: bool = False

    @property
    def keeps(self) -> bool:
        """Whether a run of it can leave something."""
        return self.kept is not _nothing


def lay_out(inputs: Path, folder: Path, scenario: Scenario) -> None:
    """Copies what a scenario starts from. The folder's last name is the same in all runs: a manifest holds it."""
    shutil.copytree(inputs / "model", folder / "model")
    for name in ("prompts.txt", "passes.yaml"):
        shutil.copy(inputs / name, folder / name)
    if scenario.old:
        shutil.copytree(inputs / scenario.old, folder / scenario.made)


def make_inputs(folder: Path) -> None:
    """Everything that any scenario starts from but old checkpoints."""
    save_pipeline(folder / "model")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS[:2]) + "\n", encoding="utf-8")
    (folder / "passes.yaml").write_text(yaml.safe_dump(_PASSES), encoding="utf-8")


def _kept(folder: Path) -> bool:
    hidden = folder / ".out.quant"
    work = (hidden / "journal.safetensors", hidden / "written" / "finished.json")
    return (
        any(path.exists() for path in work)
        or any(hidden.glob("solved/*.safetensors"))
        or any(hidden.glob("recorded/*/*"))
    )


def _calibrate(recipe: str, *options: str) -> tuple[str, ...]:
    return ("calibrate", "model", "--recipe", recipe, "--out", "out", "--quiet", *options)


_DATA = ("--prompts", "prompts.txt", "--samples", "2", "--steps", "1", "--dtype", "float32")

_RECORD = (
    *("record", "model", "--prompts", "prompts.txt", "--out", "out", "--quiet"),
    *("--calls", "3", "--samples", "2", "--steps", "4", "--dtype", "float32"),
)

_CONVERT = (
    *("convert", "model/transformer", "--scheme", "W4A16", "--out", "out", "--quiet"),
    *("--shard-size", "0.00005"),
)

_GENERATE = (
    *("generate", "model", "--prompts", "prompts.txt", "--out", "out", "--quiet"),
    *("--steps", "1", "--dtype", "float32"),
)


def _videos(folder: Path) -> bool:
    return any(folder.glob("out/*.mp4"))


SCENARIOS = [
    Scenario("data-free", _calibrate("fp8-dynamic"), "out", kept=_kept),
    Scenario("data-free, whole pipeline", _calibrate("fp8-dynamic", "--full"), "out", kept=_kept),
    Scenario("converted, many files", _CONVERT, "out", kept=_kept),
    Scenario("with data", _calibrate("w8a8", *_DATA, "--full"), "out", kept=_kept),
    Scenario("recorded", _RECORD, "out", kept=_kept),
    Scenario("recorded and solved", _calibrate("passes.yaml", *_DATA), "out", kept=_kept),
    Scenario("in place of another", _calibrate("fp8-dynamic", "--full", "--force"), "out", old="w8a16", kept=_kept),
    Scenario("with data, in place", _calibrate("w8a8", *_DATA, "--force"), "out", old="w8a16", kept=_kept),
    Scenario("videos", _GENERATE, "out", kept=_videos, one_by_one=True),
]
