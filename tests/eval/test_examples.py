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
    assert found.inputs.is_file() and found.calibration.is_file()


@pytest.mark.parametrize("name", [each.name for each in EXAMPLES])
def test_an_example_without_its_model_says_what_makes_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = example("shapes").model.parent.parent
    monkeypatch.setattr(quant, "__file__", str(tmp_path / "quant" / "__init__.py"))
    script = next(each for each in EXAMPLES if each.name == name).model.parts[0] + "/train.py"
    assert (folder / script).is_file()
    (tmp_path / "examples" / script).parent.mkdir(parents=True)
    (tmp_path / "examples" / script).touch()
    ran = CliRunner().invoke(main, ["demo", "--example", name, "--out", str(tmp_path / "demo")])
    assert ran.exit_code == 2 and ran.stderr.count("\n") == 1
    assert f"not here: python {tmp_path / 'examples' / script} makes it" in ran.stderr


def test_an_example_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["demo", "--example", "sora", "--out", str(tmp_path / "demo")])
    assert (ran.exit_code, ran.stderr) == (2, "Error: 'sora' is no example: choose from shapes, gen1, gen1-text\n")


def test_an_installation_without_the_repository_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quant, "__file__", str(tmp_path / "quant" / "__init__.py"))
    with pytest.raises(QuantError, match="or give --model, --prompts or --inputs, and --calibration"):
        example()


def test_an_example_of_one_object_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Example("toy", Path("shapes", "model"), Path("toy.jsonl"), Path("toy.txt"))
    monkeypatch.setattr("quant.eval.examples.EXAMPLES", (Example.of_prompts("shapes", "shapes"), toy))
    found = example("toy")
    assert (found.model.name, found.inputs.name, found.calibration.name) == ("model", "toy.jsonl", "toy.txt")
