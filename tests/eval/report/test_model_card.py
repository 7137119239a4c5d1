from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import quant
from quant.errors import QuantError
from quant.eval.report.card_files import base_license, loading_code, write_card
from quant.eval.report.model_card import model_card
from quant.eval.results.recorded import Recorded
from quant.files.locks import locked
from quant.files.places import CARD_MARK
from tests.eval.report.small_run import fingerprint, results
from tests.tiny_pipeline import save_pipeline

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("card") / "tiny")


@pytest.fixture(scope="module")
def checkpoint(base: Path) -> Path:
    out = base.parent / "tiny-fp8"
    quant.calibrate(base, "fp8-dynamic", out=out, progress=False)
    return out


@pytest.fixture
def recorded(base: Path, checkpoint: Path, tmp_path: Path) -> Recorded:
    import numpy as np

    drawn = np.random.default_rng(0).random((3, 4, 2, 2, 2, 3))
    body: dict[str, Any] = results(dict(zip(("original", "w8a8", "w4a8 edges"), map(list, drawn), strict=True)))
    say_sources(tmp_path, str(base), str(checkpoint))
    return Recorded(tmp_path, body)


def say_sources(run: Path, base: str, checkpoint: str) -> None:
    config = {"model": base, "candidates": {"w8a8": checkpoint, "w4a8 edges": "/elsewhere"}}
    (run / "config.json").write_text(json.dumps({"config": config}))


def front_matter(card: str) -> dict[str, Any]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_the_card_has_what_a_hub_reads_and_what_was_measured(recorded: Recorded, checkpoint: Path) -> None:
    card = model_card(recorded, checkpoint)
    assert front_matter(card) == {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": ["quantized", "quant-video", "fp8_dynamic"],
    }
    assert re.findall("^## (.*)$", card, re.M) == ["Load it", "Quality", "Speed", "Layers", "Limits"]
    summary = recorded.candidates[0]["summary"]["psnr"]
    line = next(line for line in card.splitlines() if line.startswith("| PSNR"))
    assert f"| {summary['value']:.1f} dB | {summary['low']:.1f} – {summary['high']:.1f} |" in line
    assert line.endswith("| pass | not enough samples |")
    assert "| FVD (i3d) to the original’s videos | too few samples: N=4, D=400 |" in card
    assert "12.3 |" not in card  # the distance that is none
    assert "| a CPU | one denoising step | 600 ms | 0.67× | reference arithmetic on a CPU" in card
    assert "| H100 SXM | one denoising step | 500 ms | 1.80× | estimated: roofline" in card
    assert "| `blocks.*.attn1.to_q` | 64×64 | FP8_DYNAMIC | 2 |" in card
    assert "lpips_vgg was not taken: its network is not fetched" in card


def test_sizes_and_identical_videos_are_said_as_far_as_they_are_known(recorded: Recorded, checkpoint: Path) -> None:
    model: Any = recorded.candidates[0]
    assert ": 7.1 MB instead of 12.3 MB in bf16, 58%." in model_card(recorded, checkpoint)
    model |= {"stored_bytes": None, "bf16_bytes": None}
    model["summary"]["psnr"] = {"value": 40.0, "low": None, "high": None, "n": 3, "identical": 1}
    card = model_card(recorded, checkpoint)
    assert "/tiny` in `FP8_DYNAMIC`.\n" in card
    assert "| PSNR | 40.0 dB and 1 identical |" in card
    model["summary"]["psnr"] = {"value": None, "low": None, "high": None, "n": 0, "identical": 4}
    assert "| PSNR | identical |" in model_card(recorded, checkpoint)


def test_a_base_on_a_hub_is_named(recorded: Recorded, checkpoint: Path) -> None:
    say_sources(recorded.folder, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", str(checkpoint))
    assert front_matter(model_card(recorded, checkpoint))["base_model"] == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert (
        'DiffusionPipeline.from_pretrained("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", transformer=transformer'
        in model_card(recorded, checkpoint)
    )


def test_the_license_is_the_bases_and_is_not_guessed(tmp_path: Path) -> None:
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("# no front matter\nlicense: mit\n")
    assert base_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [a]\n---\n# Wan\n")
    assert base_license(str(tmp_path)) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8-sig")
    assert base_license(str(tmp_path)) == "mit"


def test_the_code_is_the_readmes(tmp_path: Path) -> None:
    """With the names of the README's example, to the letter."""
    folder, wan = tmp_path / "wan-int8", tmp_path / "Wan2.1-T2V-1.3B-Diffusers"
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel"}))
    wan.mkdir()
    (wan / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    code = loading_code(folder, str(wan))
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text()


def test_the_code_runs(base: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    names: dict[str, Any] = {}
    exec(loading_code(checkpoint, str(base)), names)
    assert type(names["pipe"]).__name__ == "WanPipeline"
    assert type(names["pipe"].transformer.blocks[0].attn1.to_q).__module__.startswith("quant.")


def test_the_candidate_is_the_one_made_from_the_folder(recorded: Recorded, checkpoint: Path) -> None:
    named = model_card(recorded, checkpoint, "w4a8 edges")
    assert named != model_card(recorded, checkpoint)
    with pytest.raises(QuantError, match="no candidate 'w3'; it has w8a8, w4a8 edges"):
        model_card(recorded, checkpoint, "w3")
    say_sources(recorded.folder, str(checkpoint), "elsewhere")
    with pytest.raises(QuantError, match=r"no candidate made from .*--candidate"):
        model_card(recorded, checkpoint)


def test_a_run_without_its_configuration_is_named(recorded: Recorded, checkpoint: Path) -> None:
    (recorded.folder / "config.json").unlink()
    with pytest.raises(QuantError, match=r"config\.json: does not say where the models of the run lie"):
        model_card(recorded, checkpoint)


def test_a_card_of_someone_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("by hand")
    with pytest.raises(QuantError, match="--force"):
        write_card(tmp_path, CARD_MARK, mark=CARD_MARK)
    assert (tmp_path / "README.md").read_text() == "by hand"
    write_card(tmp_path, f"{CARD_MARK} 1", mark=CARD_MARK, force=True)
    write_card(tmp_path, f"{CARD_MARK} 2", mark=CARD_MARK)
    assert (tmp_path / "README.md").read_text() == f"{CARD_MARK} 2"


def test_a_checkpoint_still_verifies_with_its_new_card(base: Path, tmp_path: Path) -> None:
    """A whole pipeline copies the original's README.md, whose hash the manifest then holds."""
    (base / "README.md").write_text("the original's\n")
    out = tmp_path / "full"
    quant.calibrate(base, "fp8-dynamic", out=out, full=True, progress=False)
    (base / "README.md").unlink()
    assert "README.md" in json.loads((out / "quant_manifest.json").read_text())["files"]
    write_card(out, f"{CARD_MARK} new", mark=CARD_MARK, force=True)
    quant.load(out)  # checks sizes and hashes
    files = json.loads((out / "quant_manifest.json").read_text())["files"]
    assert files["README.md"]["sha256"] == fingerprint(f"{CARD_MARK} new")


def test_names_that_are_no_names_do_not_become_code(tmp_path: Path) -> None:
    part = tmp_path / 'a"b\n' / "transformer"
    part.mkdir(parents=True)
    (part / "config.json").write_text(json.dumps({"_class_name": "X\nimport os; os.system('x')\n#"}))
    for other in ("no name", "class", "x;y"):
        (part.parent / other).mkdir()
        (part.parent / other / "config.json").write_text(json.dumps({"_class_name": "WanTransformer3DModel"}))
    text = loading_code(part.parent, "org/model\n```")
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert names == {"AutoModel", "DiffusionPipeline", "pipe", "torch", "transformer"}
    assert len(text.splitlines()) == 6 and "```\n" not in text


def test_a_candidate_that_failed_has_a_card_that_says_so(recorded: Recorded, checkpoint: Path) -> None:
    model = recorded.body["models"][1]
    model |= {"failed": "out of [memory](x)", "summary": {}, "sets": {}, "verdicts": [], "scores": {}}
    card = model_card(recorded, checkpoint)
    assert "It failed in this run, and nothing was measured: out of \\[memory\\](x)." in card


@pytest.mark.parametrize(
    ("head", "message"),
    [("license: !!int x", "not valid YAML"), ("license: {a: b}", "must be a text"), ("license: [[", "not valid YAML")],
)
def test_a_head_of_the_bases_card_that_cannot_be_read_is_named(tmp_path: Path, head: str, message: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(QuantError, match=rf"README\.md: .*{message}"):
        base_license(str(tmp_path))
    (tmp_path / "README.md").write_bytes(b"---\n\xff\xfe\n---\n")
    with pytest.raises(QuantError, match=r"README\.md: is not UTF-8 text"):
        base_license(str(tmp_path))


def test_a_name_beyond_16_bits_is_read_back_by_python(tmp_path: Path) -> None:
    for name in ("\U0001f98a", "é中", 'a"\\b\x1b', "\udcff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").touch()
        code = loading_code(tmp_path / name, "a/b")
        (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
        assert code.isascii() and call.value == name


def test_a_card_is_not_written_while_its_checkpoint_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(tmp_path / ".out.lock", "out"), pytest.raises(QuantError, match="another process is writing it"):
        write_card(out, CARD_MARK, mark=CARD_MARK)
    write_card(out, CARD_MARK, mark=CARD_MARK)
    assert list(tmp_path.iterdir()) == [out]
