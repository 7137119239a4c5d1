from __future__ import annotations

import re
from typing import Any

import pytest

from quant.eval.report.headline import headline, overall
from quant.eval.report.markup import chip, mark
from quant.eval.report.recorded import Recorded, by_worst_candidate, read, sample_score
from quant.eval.report.score_table import distance, score_table
from quant.eval.report.words import duration, figure, interval, metric, ordered, size
from quant.eval.report.worst import worst_prompts
from tests.eval.report.small_run import PROMPTS, sample_id, write_run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return read(write_run(tmp_path_factory.mktemp("scores") / "run"))


def test_paired_metrics_come_first_and_distances_of_sets_last(recorded: Recorded) -> None:
    html = score_table(recorded).html
    places = [
        html.index(f">{title}<") for title in ("PSNR", "SSIM", "LPIPS (AlexNet)", "CLIP frame consistency", "FVD (i3d)")
    ]
    assert places == sorted(places)


def test_a_distance_of_too_few_samples_is_never_printed_as_a_figure(recorded: Recorded) -> None:
    few = recorded.candidates[0]["sets"]["fvd:i3d"]["to_original"]
    assert distance(few).startswith('<span class="few">too few samples: N=4, D=400</span>')
    assert "not to be compared" in distance(few)
    many = few | {"enough": True, "n": 2048, "extrapolated": 11.0}
    assert distance(many).startswith("12.3<small>10.00 – 14.00</small>")
    assert "too few" not in distance(many)
    assert distance(None) == "–"


def test_verdicts_are_words_and_marks_beside_colours() -> None:
    for verdict, sign in (("pass", "✓"), ("fail", "✗"), ("not enough samples", "?")):
        assert re.sub("<[^>]+>", "", chip(verdict, "1%")) == f"1% {sign} {verdict}"


def test_the_worst_verdict_of_all_metrics_decides() -> None:
    def model(*verdicts: str) -> dict[str, Any]:
        keys = ("psnr", "ssim", "lpips_alex")
        pairs = zip(keys, verdicts, strict=False)
        return {"verdicts": [{"metric": key, "level": 0.01, "verdict": verdict} for key, verdict in pairs]}

    assert overall(model("pass", "pass", "pass"), 0.01) == ("pass", "all 3 metrics")
    assert overall(model("pass", "not enough samples", "pass"), 0.01) == ("not enough samples", "SSIM")
    assert overall(model("fail", "not enough samples", "pass"), 0.01) == ("fail", "PSNR")
    assert overall(model("pass"), 0.001) is None


def test_the_headline_says_what_was_compared(recorded: Recorded) -> None:
    words = re.sub("<[^>]+>", "", headline(recorded).html)
    assert "shapes &lt;tiny&gt;, w8a8 and w4a8 edges made 4 videos each from the same prompts, seeds" in words
    assert "0.67×reference arithmetic" in words
    assert "1.80×estimated, H100 SXM" in words


def test_the_worst_come_first_with_the_candidate_that_is_worst(recorded: Recorded) -> None:
    found = by_worst_candidate(recorded)
    assert [sample["seed"] for _, sample, _ in found] == [1, 2, 0, 3]
    assert {model["name"] for _, _, model in found} == {"w4a8 edges"}
    assert [psnr for psnr, _, _ in found] == sorted(psnr for psnr, _, _ in found)
    # The w8a8 video of the last prompt is identical: infinite, not missing.
    assert sample_score(recorded.candidates[0], sample_id(PROMPTS[3], 3), "psnr") == float("inf")
    assert sample_score(recorded.candidates[0], sample_id(PROMPTS[3], 3), "lpips_vgg") is None
    html = worst_prompts(recorded, 2).html
    assert html.count("<tr>") == 1 + 2
    assert html.index("&lt;b&gt;large&lt;/b&gt;") < html.index("a green triangle")
    assert html.count("cut off by CLIP") == 1


def test_figures() -> None:
    assert figure(41.26, metric("psnr")) == "41.3 dB"
    assert (figure(None, metric("ssim")), figure(float("inf"), metric("psnr"))) == ("–", "identical")
    assert interval({"low": 0.5, "high": 0.75}, 2) == "0.50 – 0.75"
    assert interval({"low": None, "high": None}, 2) == ""
    assert [size(count) for count in (12, 3_400, 12_270_000, 28_600_000_000)] == [
        "12 B",
        "3.4 kB",
        "12.3 MB",
        "28.6 GB",
    ]
    assert [duration(value) for value in (None, 0.0456, 1.234, 123.4)] == ["–", "45.6 ms", "1.23 s", "123 s"]
    keys = ["mine", "clip_frame", "judged:colour", "ssim", "psnr"]
    assert [m.key for m in ordered(keys)] == ["psnr", "ssim", "clip_frame", "judged:colour", "mine"]


def test_models_differ_in_form_as_well_as_colour() -> None:

    assert len({mark(place, 0, 0, 5) for place in range(1, 5)}) == 4
