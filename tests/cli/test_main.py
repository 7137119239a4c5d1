"""The command as a user starts it: quick, and one line with exit status 2 for a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quant.cli import main

HEAVY = ("torch", "diffusers", "transformers", "modelopt", "datasets", "safetensors", "numpy", "yaml", "tqdm")


@pytest.mark.parametrize("arguments", [["--help"], ["calibrate", "--help"], ["--version"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from quant.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip().endswith("heavy: []")


def test_kernels_need_neither_diffusers_nor_modelopt() -> None:
    program = (
        "import sys\nfor name in ('diffusers', 'transformers', 'modelopt', 'datasets'): sys.modules[name] = None\n"
        "import quant.kernels.ops\nprint('fine')"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "fine\n"


def test_every_command_has_help_that_teaches() -> None:
    runner = CliRunner()
    for name, command in main.commands.items():
        shown = runner.invoke(main, [name, "--help"])
        assert shown.exit_code == 0
        assert command.help
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or getattr(parameter, "help", None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "nowhere"], "Error: nowhere: no such checkpoint folder\n"),
        (
            ["recipes", "show", "w9a9"],
            "Error: unknown recipe 'w9a9'; known: fp8-block, fp8-dynamic, ",
        ),
        (["calibrate", "nowhere", "--recipe", "w8a8", "--out", "x"], "Error: nowhere: no such folder\n"),
        (["calibrate", "nowhere", "--recipe", "bad.yaml", "--out", "."], "Error: .: already exists"),
        (
            ["demo", "--model", "nowhere", "--prompts", "p", "--calibration", "c", "--out", "x"],
            "Error: p: cannot be read",
        ),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(says)
    assert ran.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("quant.recipe_files.shipped_recipes", broken)
    ran = CliRunner().invoke(main, ["recipes"])
    assert isinstance(ran.exception, RuntimeError)
