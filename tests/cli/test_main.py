"""The command as a user starts it: quick, and one line with exit status 2 for a mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from quant.cli import main
from quant.errors import QuantError, QuantWarning

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
        (["verify", "nowhere"], "Error: nowhere: no such checkpoint folder\n"),
        (
            ["recipes", "show", "w9a9"],
            "Error: unknown recipe 'w9a9'; known: fp8-block, fp8-dynamic, ",
        ),
        (["recipes", "show", "w8a9"], "Error: unknown recipe 'w8a9'; did you mean w8a8? known: fp8-block, "),
        (["recipes", "show", "w4a8-edges"], "Error: recipe 'w4a8-edges' is for wan; wan/w4a8-edges takes it anyway\n"),
        (["calibrate", "nowhere", "--recipe", "w8a8", "--out", "x"], "Error: nowhere: no such folder\n"),
        (["calibrate", "m", "--recipe", "r", "--out", "x", "--device", "gpu"], "Error: device 'gpu' is none that"),
        (["sensitivity", "m", "--recipe", "r", "--prompts", "p", "--device", "cuda:99"], "Error: device 'cuda:99'"),
        (["calibrate", "nowhere", "--recipe", "bad.yaml", "--out", "."], "Error: .: already exists"),
        (
            ["demo", "--model", "nowhere", "--prompts", "p", "--calibration", "c", "--out", "x"],
            "Error: nowhere: no such folder\n",
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


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--seed", str(2**63)], "is not in the range"),
        (["--seed", "-1"], "is not in the range"),
        (["--samples", "99999999999"], "is not in the range"),
        (["--steps", "99999999999"], "is not in the range"),
        (["--shard-size", "nan"], "nan is not a size in GB, such as 10"),
        (["--shard-size", "inf"], "inf is not a size in GB"),
        (["--shard-size", "0"], "0.0 is not a size in GB"),
        (["--keep-budget", "5"], "is more than 100%; say what is meant: 5% or 0.05"),
        (["--keep-budget", "150%"], "is more than 100%; say what is meant, such as 5% or 0.05"),
        (["--out", ""], "is empty"),
        (["--recipe", ""], "is empty"),
        (["--prompts", ""], "is empty"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_a_mistake(option: list[str], says: str) -> None:
    ran = CliRunner().invoke(main, ["calibrate", "nowhere", "--recipe", "w8a8", "--out", "x", *option])
    assert ran.exit_code == 2
    assert says in " ".join(ran.stderr.split()) and "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (KeyboardInterrupt("interrupted; the same command goes on"), 130, "\ninterrupted; the same command"),
        (MemoryError(), 2, "Error: out of memory: take fewer or smaller frames"),
        (PermissionError(13, "Permission denied", "/a\x1b[31m"), 2, "Error: /a\\x1b[31m: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device\n"),
    ],
)
def test_what_a_machine_does_is_one_line(
    error: BaseException, status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("quant.recipe_files.shipped_recipes", failing)
    ran = CliRunner().invoke(main, ["recipes"])
    assert (ran.exit_code, ran.stdout) == (status, "")
    assert ran.stderr.startswith(says) and ran.stderr.strip().count("\n") == 0


def test_a_warning_of_ours_is_a_note_of_any_command_and_others_are_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(*args: object, **kwargs: object) -> None:
        warnings.warn("read as\x1b codes", QuantWarning, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)
        raise QuantError("end")

    monkeypatch.setattr("quant.recipe_files.shipped_recipes", warning)
    with pytest.warns(UserWarning, match=r"^of a library$") as others:
        ran = CliRunner().invoke(main, ["recipes"])
    assert ran.stderr == "note: read as\\x1b codes\nError: end\n"
    assert len(others) == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_that_cannot_print_a_name_prints_what_it_can(encoding: str, tmp_path: Path) -> None:
    program = (
        "import sys, click; from quant.cli import main\n"
        "@main.command()\n"
        "def names(): click.echo('视频 \\udcff é'); click.echo('视频 \\udcff', err=True); print('视频 \\udcff')\n"
        "main(['names'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr
    assert len(ran.stdout.splitlines()) == 2 and ran.stderr


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    program = "from quant.cli import main; main(['recipes'])"
    ran = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert ran.stdout is not None and ran.stderr is not None
    ran.stdout.close()
    assert ran.stderr.read() == b""
    assert ran.wait() in (0, 1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_one_line_and_the_shells_status(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    def work(*args: object, **options: object) -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    monkeypatch.setattr("quant.calibrate", work, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    # A shell starts what it runs in the background with Ctrl-C ignored, and then nothing would come.
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = CliRunner().invoke(main, ["calibrate", "model", "--recipe", "w8a8", "--out", "out"])
    finally:
        signal.signal(signal.SIGINT, outer)
    assert (ran.exit_code, ran.stderr) == (status, "\ninterrupted\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupt_while_a_class_is_made_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*args: object, **options: object) -> None:
        raise RuntimeError("Error calling __set_name__ on 'Field' instance") from KeyboardInterrupt()

    monkeypatch.setattr("quant.calibrate", work, raising=False)
    ran = CliRunner().invoke(main, ["calibrate", "model", "--recipe", "w8a8", "--out", "out"])
    assert (ran.exit_code, ran.stderr) == (130, "\ninterrupted\n")
