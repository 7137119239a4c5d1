"""`quant verify` as typed: a line for each check, a verdict, JSON, and the exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import quant
from quant.cli import main
from tests.api.editing import edited
from tests.checkpoint.tiny import LAYERS, write_tiny


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *(str(argument) for argument in arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "made", dict.fromkeys(LAYERS, "W8A8"))
    return tmp_path / "made"


def test_a_sound_pipeline(checkpoints: dict[str, Path]) -> None:
    ran = run(checkpoints["w8a8"], "--quiet")
    assert (ran.exit_code, ran.stderr) == (0, "")
    *lines, last = ran.stdout.splitlines()
    assert last == "sound: every check passed"
    assert all(line.startswith("ok   ") and len(line) <= 80 for line in lines)
    assert any(line.startswith("ok   transformer  2 files, ") for line in lines)
    assert any(line.startswith("ok   (others)  ") for line in lines)


def test_notes_say_what_was_not_compared(folder: Path) -> None:
    ran = run(folder)
    assert ran.exit_code == 0
    assert "verifying: 100%" in ran.stderr and "verifying" not in ran.stdout
    assert "note (model)  no quant_manifest.json: bytes are not compared with hashes\n" in ran.stdout
    assert "note (model)  not compared with a class: diffusers has no 'Tiny'\n" in ran.stdout
    assert ran.stdout.endswith("\nsound, as far as it can be compared; see the notes\n")
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())


def test_faults_are_lines_and_status_1(folder: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        for layer in LAYERS[:2]:
            tensors[f"{layer}.weight_scale"][2] = float("nan")

    edited(folder, edit)
    ran = run(folder, "--quiet")
    assert (ran.exit_code, ran.stderr) == (1, "")
    for layer in LAYERS[:2]:
        assert f"\nFAIL {layer}.weight_scale: holds NaN at [2, 0]; a scale is finite" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith("2 faults: ")


def test_json(folder: Path, tmp_path: Path) -> None:
    ran = run(folder, "--json", "--quiet")
    assert ran.exit_code == 0
    assert json.loads(ran.stdout) == json.loads(json.dumps(quant.verify(folder, progress=False).to_dict()))
    edited(folder, lambda tensors: tensors.pop("blocks.0.0.weight_scale"))
    ran = run(folder, "--json")
    body = json.loads(ran.stdout)
    assert (ran.exit_code, body["sound"], body["has_manifest"], body["faults"]) == (1, False, False, 1)
    assert set(body) == {"folder", "sound", "has_manifest", "bytes", "faults", "checks"}
    (failed,) = (check for check in body["checks"] if check["status"] == "FAIL")
    assert set(failed) == {"component", "check", "status", "text", "faults", "more"}


def test_more_than_are_listed_are_counted(folder: Path) -> None:
    edited(folder, lambda tensors: tensors.update({f"{LAYERS[0]}.extra{i}": torch.ones(1) for i in range(30)}))
    said = run(folder, "--quiet").stdout
    assert said.count("FAIL") == 21
    assert "FAIL (model)  and 10 more faults of this kind\n" in said and "\n30 faults: " in said


@pytest.mark.parametrize("arguments", [["nowhere"], ["."], ["config.json"], []])
def test_a_wrong_path_or_usage_is_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    ran = run(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "Error: " in ran.stderr and "Traceback" not in ran.stderr


def test_a_name_from_a_file_moves_no_cursor(folder: Path) -> None:
    edited(folder, lambda tensors: tensors.update({"blocks.0.0.\x1b[2J": torch.ones(1)}))
    said = run(folder, "--quiet").stdout
    assert "\x1b" not in said and "\\x1b[2J" in said


def test_it_does_not_read_what_it_cannot(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "config.json").write_text("[" * 100_000)
    ran = run(folder, "--quiet")
    assert ran.exit_code == 1
    assert "FAIL config.json: damaged: " in ran.stdout
