"""What the READMEs say is what was measured and what is there."""

import re

import pytest
from click.testing import CliRunner

from benchmarks.readme import FIGURES, READMES, ROOT, pictures, rendered
from quant.cli import main
from quant.recipe_files import shipped_recipes


def test_figures_come_from_their_files() -> None:
    found = []
    for path in READMES:
        text = path.read_text(encoding="utf-8")
        assert rendered(text) == text, f"run python -m benchmarks.readme for {path.name}"
        found += re.findall(r"<!-- figures: (\w+) -->", text)
    assert sorted(found) == sorted(FIGURES)


def test_pictures_come_from_their_files() -> None:
    made = pictures()
    assert made
    for path, picture in made.items():
        assert path.read_text(encoding="utf-8") == picture, "run python -m benchmarks.readme"
        assert f"]({path.name})" in (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")


def test_every_recipe_is_in_the_table() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    names = {name.partition("/")[2] for name in shipped_recipes()}
    assert {name for name in names if f"| `{name}` |" in text} == names


def test_the_example_recipe_is_valid() -> None:
    from quant.recipe import Recipe

    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert [group.scheme.name for group in Recipe.from_yaml(block).groups] == ["FP8_DYNAMIC", "W8A8"]


@pytest.mark.parametrize("name", ["calibrate", "inspect", "verify", "generate", "recipes", "demo"])
def test_every_command_it_names_exists(name: str) -> None:
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
    assert f"quant {name}" in (ROOT / "README.md").read_text(encoding="utf-8") or name == "demo"


def test_links_lead_somewhere() -> None:
    for path in READMES:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), target


def test_what_security_promises_has_tests() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| **")]
    assert promises
    for line in promises:
        named = re.findall(r"`(tests/[\w/.]+)`", line)
        assert named, line
        assert [name for name in named if not (ROOT / name).exists()] == []
