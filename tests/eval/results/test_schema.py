from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.results.schema import read_results, validate
from tests.eval.report.small_run import recorded

HEAD = '"kind": "quant evaluation", "format_version"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such results: a run folder is what `quant eval run` makes"),
        ("{", "damaged: "),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a JSON object"),
        ('{"format_version": 2}', "not the results of an evaluation"),
        (f"{{{HEAD}: 4}}", "format_version 4 cannot be read here, only 2 and 3"),
        (f"{{{HEAD}: 2}}", "results.json: $: '.*' is a required property"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(QuantError, match=said.replace("$", re.escape("$"))):
        read_results(tmp_path)


def test_an_unfinished_run_is_told_how_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(QuantError, match=f"no such results: finish it with `quant eval resume {tmp_path}`"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("models", 1, "verdicts", 0, "verdict"), "perhaps", r"\$\.models\[1\]\.verdicts\[0\]\.verdict: 'perhaps'"),
        (("models", 1, "summary", "psnr", "value"), "40", r"\$\.models\[1\]\.summary\.psnr\.value: '40'"),
        (("samples", 0, "id"), "7", r"\$\.samples\[0\]\.id: '7' does not match"),
        (("conditions", "more"), 1, r"\$\.conditions: .*'more' was unexpected"),
    ],
)
def test_what_is_not_as_the_schema_says_is_named_by_its_place(path: tuple[Any, ...], value: Any, said: str) -> None:
    body = copy.deepcopy(dict(recorded().body))
    validate(body, "r")
    *way, last = path
    place: Any = body
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(QuantError, match=f"^r: {said}"):
        validate(body, "r")
    assert json.dumps(body, allow_nan=False)
