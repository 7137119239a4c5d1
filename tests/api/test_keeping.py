"""An error or an interrupt says whether the next run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant.api.keeping import keeping
from quant.checkpoint.folder import holding
from quant.pipelines.input_error import InputError
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.source import Source


def test_it_says_that_the_next_run_goes_on_only_where_it_does(tmp_path: Path) -> None:
    model, out, goes_on = tmp_path / "model", tmp_path / "out", "what was done is kept: the same command goes on"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    snapshot = Snapshot.of(Source("a/b", model, {}, is_pipeline=False))
    wrong, stop = InputError.of("blocks.0", "NaN", "in its call 3"), KeyboardInterrupt()
    with holding(out, force=False) as folder:

        def said(error: BaseException) -> str:
            with pytest.raises(type(error)) as found, keeping(folder, snapshot):
                raise error
            return str(found.value)

        folder.claim({"key": "a"})
        assert (said(wrong), said(stop)) == (str(wrong), "interrupted; nothing was done yet")
        folder.journal.touch()
        assert (said(wrong), said(stop)) == (f"{wrong}; {goes_on}", f"interrupted; {goes_on}")
        (model / "config.json").write_text("{ }", encoding="utf-8")
        assert said(wrong) == str(wrong)
        assert said(stop) == "interrupted; the model changed meanwhile, so the same command starts anew"
        with folder.new():
            pass
        assert said(stop) == f"interrupted; {out} is finished"
