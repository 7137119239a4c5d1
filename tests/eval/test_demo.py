"""The demo on a tiny pipeline: one page, results that read back, and checkpoints beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import quant
from quant.cli import main
from quant.errors import QuantError
from quant.eval.demo import ALL_RECIPES, RECIPES, SAMPLES, run_demo
from quant.eval.demo_folder import claim
from quant.eval.report.players import players
from quant.eval.results.recorded import read
from quant.eval.results.schema import read_results
from quant.pipelines.media import Media
from quant.pipelines.rows import Row, prompt_rows
from tests import tiny_pipelines
from tests.tiny_pipeline import save_pipeline


def test_the_demo_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_pipeline(tmp_path / "model")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red fox\na blue bird\nsnow\n")
    out = tmp_path / "demo"
    command = ["demo", "--model", str(model), "--prompts", str(prompts), "--calibration", str(prompts)]
    ran = CliRunner().invoke(main, [*command, "--clips", "2", "--out", str(out)])
    assert ran.exit_code == 0, ran.stderr
    assert "a roofline estimate for h100-sxm, not measured" in ran.stdout and "s/step" not in ran.stdout
    lines = [line for line in ran.stderr.splitlines() if " of all, about " in line]
    assert [line.partition(" of ")[0] for line in lines] == [str(i) for i in range(1, 11)]  # a line a part
    assert lines[0].startswith("1 of 10: calibrating w8a8-gptq: 0% of all, about ")
    assert f"open {out / 'index.html'}" in ran.stdout
    results = read_results(out / "results.json")
    assert {sample["prompt"] for sample in results["samples"]} == {"a red fox", "a blue bird"}
    candidates = results["models"][1:]
    assert sorted(candidate["name"] for candidate in candidates) == sorted(RECIPES)
    for candidate in candidates:
        folder = out / "checkpoints" / candidate["name"]
        assert candidate["stored_bytes"] == quant.inspect(folder).components[0].nbytes
        assert candidate["summary"]["psnr"]["value"] > 20
        assert candidate["calibration_prompts"] == SAMPLES
        assert results["speed"]["models"][candidate["name"]]["stages"]["step"]["median"] > 0
    page = (out / "index.html").read_text()
    assert all(recipe in page for recipe in RECIPES)
    with Image.open(out / "frames.png") as sheet:
        assert sheet.width > 4 * 3 * 72
    begun = {path: path.stat().st_mtime_ns for path in out.rglob("*.mkv")}
    monkeypatch.setattr("quant.eval.demo.render", lambda run: run / "report.html")  # made once, as that takes long
    again = CliRunner().invoke(main, [*command, "--clips", "2", "--out", str(out)])
    assert again.exit_code == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.mkv")} == begun
    other = CliRunner().invoke(main, [*command, "--clips", "1", "--out", str(out)])
    assert (other.exit_code, "is not of this demo" in other.stderr) == (2, True)
    (run,) = out.glob("evaluation-*")
    card = out / "checkpoints" / RECIPES[0] / "model_index.json"
    for path in (out / "checkpoints" / "thesis.txt", out / "checkpoints" / RECIPES[0] / "x", run / "notes.txt", card):
        before = path.read_bytes() if path.exists() else None
        path.write_text("years of work")
        with pytest.raises(QuantError, match=f"holds '{path.relative_to(out)}', which no demo made"):
            claim(out, {}, force=True)
        assert path.read_text() == "years of work"
        path.unlink() if before is None else path.write_bytes(before)
    claim(out, {}, force=True)
    assert [path.name for path in out.iterdir()] == ["demo.json"]


def test_the_demo_of_an_editor_shows_what_it_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_pipelines.save("unet-video", tmp_path)
    table = tiny_pipelines.table("unet-video", tmp_path)
    out = tmp_path / "demo"
    shown: list[str] = []

    def render(run: Path) -> Path:  # the page's other parts take long, and the whole demo has them
        shown.append(players(read(run)).html)
        return run / "results.json"

    monkeypatch.setattr("quant.eval.demo.render", render)
    command = ["demo", "--model", str(model), "--inputs", str(table), "--calibration", str(table), "--clips", "1"]
    ran = CliRunner().invoke(main, [*command, "--recipes", "fp8-dynamic,w8a8", "--out", str(out)])
    assert ran.exit_code == 0, ran.stderr
    assert "est. speedup" not in ran.stdout and "timing" in ran.stderr  # no roofline model knows its UNet
    results = read_results(out / "results.json")
    (sample,) = results["samples"]
    assert sample["inputs"]["video"]["file"] == str(tmp_path / "clip.mp4")
    made = quant.inspect(out / "checkpoints" / "w8a8").provenance or {}
    assert [sorted(row) for row in made["calibration"]["inputs"]] == [["prompt", "strength", "video"]] * SAMPLES
    assert "<b>source</b><span>video</span>" in shown[0] and shown[0].count("<video") == 1 + 1 + 2 * 2
    with Image.open(out / "frames.png") as sheet:
        assert sheet.width > 4 * 3 * 72
    claim(out, {}, force=True)  # all that is there was made by a demo
    assert [path.name for path in out.iterdir()] == ["demo.json"]


def test_what_videos_are_made_from_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    tiny_pipelines.media(tmp_path / "demo")
    (tmp_path / "demo" / "demo.json").write_text('{"model": "", "recipes": [], "settings": {}, "seed": 0}')
    clip = Media("clip.mp4", str(tmp_path / "demo" / "clip.mp4"))
    with pytest.raises(QuantError, match=r"demo: holds the original, .*clip\.mp4; choose another --out"):
        run_demo(
            tmp_path / "model",
            tmp_path / "demo",
            calibration=tmp_path / "c.txt",
            rows=[Row(1, {"prompt": "x", "video": clip})],
            settings=quant.GenerationSettings(),
            force=True,
        )


def test_prompts_and_a_table_are_not_given_together(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["demo", "--prompts", "a", "--inputs", "b", "--out", str(tmp_path / "demo")])
    assert (ran.exit_code, "--prompts and --inputs are given" in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "expected"), [("", RECIPES), ("all", ALL_RECIPES), ("w8a8, fp8-dynamic", ("w8a8", "fp8-dynamic"))]
)
def test_which_recipes_are_compared(
    given: str, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(*_: Any, recipes: Any, **__: Any) -> None:
        asked.append(recipes)
        raise QuantError("enough")

    monkeypatch.setattr("quant.eval.demo.run_demo", run)
    ran = CliRunner().invoke(main, ["demo", "--recipes", given, "--out", str(tmp_path / "demo")])
    assert (ran.exit_code, asked) == (2, [expected])
    assert set(RECIPES) < set(ALL_RECIPES)


def test_what_no_demo_made_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(QuantError, match="choose another --out"):
            run_demo(
                tmp_path / "model",
                tmp_path,
                calibration=tmp_path / "c.txt",
                rows=prompt_rows(["x"]),
                settings=quant.GenerationSettings(),
                force=force,
            )
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
