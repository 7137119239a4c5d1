"""`quant export` as its user runs it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from quant.cli.main import main
from quant.exporting.table import DESTINATIONS
from tests.exporting.meaning import converted


def test_it_says_what_it_wrote(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "wan-int8"
    checkpoint = converted(model_folder, "W8A8")
    done = CliRunner().invoke(main, ["export", str(checkpoint), "--to", "comfyui", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "20 layers as they were stored, 6 Linears not quantized",
        f"wrote {out / 'wan-int8.safetensors'}",
    ]
    refused = CliRunner().invoke(main, ["export", str(checkpoint), "--to", "modelopt", "--out", str(tmp_path / "no")])
    assert refused.exit_code == 2
    assert "ModelOpt's layout is FP8" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_help_and_docs_have_every_destination() -> None:
    text = CliRunner().invoke(main, ["export", "--help"]).stdout
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    for destination in DESTINATIONS:
        assert f"\n  {destination.name} " in text
        assert f"`{destination.name}`" in page
