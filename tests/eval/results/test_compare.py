from __future__ import annotations

import copy
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.results.compare import comparison


def _results(**ssim: list[float]) -> dict[str, Any]:
    """Candidates by name with an SSIM for each sample."""
    count = len(next(iter(ssim.values())))
    ids = [f"{number:012x}" for number in range(count)]
    models = [{"name": "original", "scheme": "bf16", "scores": {}}]
    for name, values in ssim.items():
        scores = {key: {"ssim": value, "psnr": None} for key, value in zip(ids, values, strict=True)}
        models.append({"name": name, "scheme": "W8A8", "scores": scores})
    return {
        "conditions": {"fingerprint": "ab", "settings": {"height": 8}, "dtype": "float32"},
        "samples": [{"id": key, "latents_sha256": f"noise of {key}"} for key in ids],
        "models": models,
    }


def test_differences_are_of_common_samples() -> None:
    first, second = _results(w8a8=[0.5, 0.7, 0.9]), _results(w8a8=[0.6, 0.8, 0.9])
    second["samples"][2]["latents_sha256"] = "other noise"
    rows, note = comparison(first, second, "one", "two")
    assert rows[1] == ("w8a8", "W8A8", "ssim", "2", "0.6", "0.7", "+0.1", "[+0.1, +0.1]")
    assert len(rows) == 2  # every PSNR is of identical videos
    assert "2 samples are in both" in note


def test_single_candidates_are_compared_whatever_their_names_and_others_by_name() -> None:
    one, other = _results(a=[0.5, 0.5]), _results(b=[0.75, 0.75])
    assert comparison(one, other, "one", "two")[0][1][0] == "a / b"
    rows, _ = comparison(_results(a=[0.5, 0.5], b=[0.5, 0.5]), _results(b=[0.75, 0.75], c=[0.0, 0.0]), "one", "two")
    assert [row[0] for row in rows[1:]] == ["b"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("conditions", "settings"), {"height": 16}, "originals differ in settings"),
        (("conditions", "fingerprint"), "cd", "originals differ in fingerprint"),
        (("conditions", "dtype"), "bfloat16", "originals differ in dtype"),
        (("samples",), [{"id": "f" * 12, "latents_sha256": ""}], "no sample of the same prompt, seed and noise"),
        (("models",), [{"name": "original"}], "no candidate of the same name"),
    ],
)
def test_runs_that_cannot_be_compared(place: tuple[str, ...], value: Any, message: str) -> None:
    first = _results(w8a8=[0.5, 0.7])
    second = copy.deepcopy(first)
    within = second
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(QuantError, match=f"one and two: .*{message}"):
        comparison(first, second, "one", "two")
