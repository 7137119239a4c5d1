"""A video is hashed when it is written and when it is read, and a changed one is never scored."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.inputs.models import Model, load_pipeline
from quant.eval.results.schema import read_results
from quant.eval.runs.running import resume, run_evaluation
from quant.eval.storage import files
from tests.eval.runs.conftest import tiny


def test_videos_are_hashed_once_when_written_and_once_for_each_reading(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: Counter[str] = Counter()
    digest = hashlib.file_digest

    def counted(file: Any, name: Any) -> Any:
        path = Path(f"/proc/self/fd/{file.fileno()}").resolve()
        if path.suffix == ".mkv":
            hashed[path.parent.name] += 1
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(files, "SETTLED", 10**18)  # no hash of an earlier moment is remembered
    candidates = {"fp8": str(models / "fp8"), "part": str(models / "part")}
    folder = run_evaluation(tiny(models, samples=1, candidates=candidates), tmp_path)
    original, *others = (model["fingerprint"] for model in read_results(folder)["models"])
    # Written, and read to be scored; the original's is read beside each candidate's too.
    assert hashed == {original: 2 + len(others), **dict.fromkeys(others, 2)}
    hashed.clear()
    resume(folder)
    assert hashed == dict.fromkeys([original, *others], 1)


def test_a_video_that_changes_before_it_is_scored_is_said_and_made_again(models: Path, tmp_path: Path) -> None:
    def load(model: Model, *given: Any, **named: Any) -> Any:
        if model.name == "fp8":  # the original's videos are made by then
            (path,) = tmp_path.glob("*/frames/*/*.mkv")
            path.write_bytes(path.read_bytes()[:-1])
        return load_pipeline(model, *given, **named)

    with pytest.raises(QuantError, match=r"\.mkv: is not what the run wrote; `quant eval resume` makes it again"):
        run_evaluation(tiny(models, samples=1), tmp_path, load=load)
    (folder,) = tmp_path.iterdir()
    resume(folder)
    assert read_results(folder)["models"][1]["failed"] is None
