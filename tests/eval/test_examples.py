"""The examples that a clone has."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import quant
from quant.cli import main
from quant.errors import QuantError
from quant.eval.examples import EXAMPLES, Example, example


@pytest.mark.parametrize("name", [each.name for each in EXAMPLES])
def test_the_files_of_every_example_are_there(name: str) -> None:
    found = example(name)
    assert (found.model / "model_index.json").is_file()
    assert found.prompts.is_file() and found.calibration.is_file()


def test_an_example_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["demo", "--example", "sora", "--out", str(tmp_path / "demo")])
    assert (ran.exit_code, ran.stderr) == (2, "Error: 'sora' is no example: choose from shapes\n")


def test_an_installation_without_the_repository_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quant, "__file__", str(tmp_path / "quant" / "__init__.py"))
    with pytest.raises(QuantError, match="give --model, --prompts and --calibration"):
        example()


def test_an_example_of_one_object_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quant.eval.examples.EXAMPLES", (Example.within("shapes"), Example("toy", *[Path("shapes")] * 3))
    )
    assert example("toy").model.name == "shapes"
