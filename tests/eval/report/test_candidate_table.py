from __future__ import annotations

import copy
import json

import pytest

from quant.eval.report.candidate_table import candidate_table
from quant.eval.results.recorded import Recorded
from tests.eval.report import small_run
from tests.eval.report.pages import words


@pytest.fixture
def recorded() -> Recorded:
    """Four samples thrice, each of a prompt of its own: enough to decide."""
    body = json.loads(json.dumps(small_run.recorded().body))
    samples = [{**each, "id": f"{each['id']}{turn}"} for turn in range(3) for each in body["samples"]]
    for number, sample in enumerate(samples):
        sample["prompt"] = f"<b>{number}</b>"
    for model in body["models"]:
        model["scores"] = {f"{key}{turn}": found for turn in range(3) for key, found in model["scores"].items()}
    return Recorded(small_run.recorded().folder, {**body, "samples": samples})


def test_every_two_candidates_are_compared_by_every_paired_metric(recorded: Recorded) -> None:
    text = words(candidate_table(recorded).html)
    assert text.startswith("candidate than PSNR SSIM LPIPS (AlexNet) w4a8 edges w8a8 ▼ worse")
    assert text.count("▼ worse") == 3 and text.count("better on 0 of 12") == 3
    assert "Of 3 comparisons, better and worse: by a sign test" in text
    # The identical clip of w8a8 is better, and in no mean.
    one, other = (model["scores"] for model in recorded.candidates)
    apart = [other[key]["psnr"] - one[key]["psnr"] for key in one if one[key]["psnr"] is not None]
    assert len(apart) == 9 and f"{sum(apart) / 9:+.1f} dB" in text


def test_four_samples_decide_nothing() -> None:
    text = words(candidate_table(small_run.recorded()).html)
    assert text.count("too few") == 3 and "▼" not in text


def test_one_candidate_is_compared_with_none(recorded: Recorded) -> None:
    body = copy.deepcopy(dict(recorded.body))
    body["models"][2]["failed"] = "no memory"
    assert "none is compared with another" in candidate_table(Recorded(recorded.folder, body)).html


def test_names_are_text_whatever_is_in_them(recorded: Recorded) -> None:
    body = copy.deepcopy(dict(recorded.body))
    body["models"][1]["name"] = "<script>1</script>"
    assert "<script>" not in candidate_table(Recorded(recorded.folder, body)).html
