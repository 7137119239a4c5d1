"""`quant generate`, as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import quant
from quant.cli import main
from tests.tiny_pipeline import save_pipeline


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, and a checkpoint of its denoiser alone."""
    folder = tmp_path_factory.mktemp("models")
    quant.convert(save_pipeline(folder / "model"), folder / "part", recipe="fp8-dynamic", progress=False)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["generate", *(str(argument) for argument in arguments)])


def test_a_prompt_and_a_table(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "fox.mp4"
    ran = run(models / "part", "a red fox", "--base", models / "model", "--out", out, "--steps", 1, "--fps", 8)
    assert ran.exit_code == 0, ran.stderr
    size = out.stat().st_size / 1e6
    assert ran.stdout == f"wrote {out}: 5 frames of 16x16, 8 a second, {size:.2f} MB, H.264\n"
    assert "video: 100%" in ran.stderr and "1/1" in ran.stderr

    (tmp_path / "prompts.txt").write_text("a red fox\nsnow\n")
    command = (models / "model", "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "out", "--quiet")
    ran = run(*command, "--lossless", "--set", "num_inference_steps=1")
    assert ran.exit_code == 0 and ran.stderr == ""
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == [
        f"wrote {tmp_path / 'out' / name}" for name in ("0001.mkv", "0002.mkv")
    ]
    (tmp_path / "out" / "0002.mkv").unlink()
    ran = run(*command, "--lossless", "--set", "num_inference_steps=1")
    assert ran.stdout.splitlines()[1:] == [f"1 of this request were in {tmp_path / 'out'} already"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("model", "snow", "--out", "a.mp4", "--set", "strength=0.5"), "WanPipeline takes no 'strength'"),
        (("part", "snow", "--out", "a.mp4"), "name its original by --base"),
        (("model", "--out", "a.mp4"), "give one of a prompt, --prompts FILE and --inputs FILE"),
        (("model", "snow", "--out", "a.avi"), "is to be a video; name it .mp4 or .mkv"),
        (("model", "--prompts", "none.txt", "--out", "out"), "none.txt"),
        (("nowhere", "snow", "--out", "a.mp4"), "no such folder"),
    ],
)
def test_errors_are_one_line(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model, *rest = arguments
    ran = run(models / model, *rest)
    assert ran.exit_code == 2 and words in ran.stderr
    assert ran.stderr.count("\n") == 1 and ran.stderr.startswith("Error: ")
    assert list(tmp_path.iterdir()) == []
