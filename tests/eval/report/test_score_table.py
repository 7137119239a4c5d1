from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from quant.eval.drawing.markup import chip, mark
from quant.eval.metrics.table import display, ordered
from quant.eval.report.headline import headline
from quant.eval.report.score_table import distance, score_table, worst_prompts
from quant.eval.results.recorded import Recorded, by_worst_candidate, sample_score
from quant.eval.results.words import duration, figure, interval, level_text, share, size
from tests.eval.report import small_run
from tests.eval.report.pages import browsed, page, words
from tests.eval.report.small_run import PROMPTS, sample_id


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return small_run.recorded()


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
    assert words(distance(many)) == "12.3 10.00 – 14.00 11 extrapolated to many samples"
    assert "too few" not in distance(many)
    assert distance(None) == "–"


def test_verdicts_are_words_and_marks_beside_colours() -> None:
    for verdict, sign in (("pass", "✓"), ("fail", "✗"), ("not enough samples", "?")):
        assert re.sub("<[^>]+>", "", chip(verdict, "1%")) == f"1% {sign} {verdict}"


def test_a_short_verdict_is_told_whole_to_who_does_not_see_it() -> None:
    """Six candidates beside each other have no room for "not enough samples"."""
    few = chip("not enough samples", "1%", short=True)
    heard = re.sub('<(b|i) aria-hidden="true">[^<]*</(b|i)>', "", few)
    assert words(heard) == "1% not enough samples"
    seen = re.sub('<span class="unseen">[^<]*</span>', "", few)
    assert words(seen) == "1% ? too few"
    assert 'title="1%: not enough samples"' in few
    assert 'title="not enough samples"' in chip("not enough samples", short=True)
    for verdict in ("pass", "fail"):
        assert chip(verdict, "1%", short=True) == chip(verdict, "1%")


def with_candidates(count: int) -> Recorded:
    """Their figures in turn those of the two; every verdict and every name as wide as they come."""
    found = small_run.recorded()
    original, *two = json.loads(json.dumps(found.models))
    models = [{**two[number % 2], "name": f"wan2_1_t2v_w4a16_gptq_kept_{number}"} for number in range(count)]
    for model in models:
        model["scheme"] = "2:4 FP8_DYNAMIC, FP8_DYNAMIC"
        model["verdicts"] = [{**entry, "verdict": "not enough samples"} for entry in model["verdicts"]]
    return Recorded(found.folder, {**found.body, "models": [original, *models]})


def test_six_candidates_fit_a_window_of_1280_and_verdicts_stay_whole(tmp_path: Path) -> None:
    probe = """
    const table = document.querySelector(".scores").parentElement;
    const around = (chip) => {
      const [box, cell] = [chip, chip.closest("td")].map((element) => element.getBoundingClientRect());
      return [box.left - cell.left, cell.right - box.right, box.height];
    };
    document.documentElement.dataset.seen = JSON.stringify({
      wide: [table.scrollWidth, table.clientWidth, document.documentElement.scrollWidth],
      chips: [...document.querySelectorAll(".scores .chip")].map(around),
      unseen: [...document.querySelectorAll(".scores .unseen")].map((word) => word.getBoundingClientRect().width),
    });
    """
    seen = browsed(page(score_table(with_candidates(6))), probe, tmp_path)
    inside, room, whole = seen["wide"]
    assert inside <= room <= 1160
    assert whole <= 1280
    assert len(seen["chips"]) == 6 * 6
    for left, right, height in seen["chips"]:
        assert min(left, right) >= 0
        assert height < 28  # one line
    assert max(seen["unseen"]) <= 1


def test_on_a_narrow_screen_words_are_not_broken(tmp_path: Path) -> None:
    probe = """
    const heads = [...document.querySelectorAll(".scores tbody th")].map((head) => head.firstChild);
    const lines = (text, word) => {
      const range = document.createRange(), at = text.data.indexOf(word);
      range.setStart(text, at);
      range.setEnd(text, at + word.length);
      return range.getClientRects().length;
    };
    const found = heads.filter((text) => text.data.includes("consistency")).map((text) => lines(text, "consistency"));
    document.documentElement.dataset.seen = JSON.stringify({ lines: found });
    """
    seen = browsed(page(score_table(with_candidates(6))), probe, tmp_path, width=500)
    assert seen["lines"] == [1, 1]


def test_without_verdicts_or_with_one_sample_nothing_is_said_of_them() -> None:
    found = small_run.recorded()
    for model in found.models:
        model["verdicts"] = []  # type: ignore[index]
        for estimate in model["summary"].values():
            estimate |= {"low": None, "high": None, "n": 1}
    text = words(score_table(found).html)
    assert "1 sample: no interval" in text
    assert "Verdicts" not in text
    assert "chip" not in score_table(found).html
    assert 'class="chip' not in headline(found).html


def test_a_size_that_is_not_known_is_a_dash() -> None:
    found = small_run.recorded()
    models: Any = found.models
    models[1] |= {"stored_bytes": None, "bf16_bytes": None}
    models[2] |= {"bf16_bytes": None}
    assert "Stored 12.3 MB 100% of bf16 – 4.3 MB Against" in words(score_table(found).html)
    first, second = headline(found).html.split("<section")[1:]
    assert "Stored" not in first
    assert "Stored 4.3 MB" in words(second)
    assert "of bf16" not in second


def test_identical_videos_are_counted_beside_the_mean_of_the_others() -> None:
    found = small_run.recorded()
    models: Any = found.candidates
    models[1]["summary"]["psnr"] = {"value": None, "low": None, "high": None, "n": 0, "identical": 4}
    first, second = (words(part) for part in headline(found).html.split("<section")[1:])
    summary = models[0]["summary"]["psnr"]
    assert f"PSNR {summary['value']:.1f} dB {interval(summary, 1)}, and 1 identical" in first
    assert "PSNR identical" in second
    text = words(score_table(found).html)
    assert "and 1 identical" in text
    assert "identical 1% ✗ fail 0.1% ✗ fail SSIM" in text  # of the other, without a figure


def test_the_headline_says_what_was_compared(recorded: Recorded) -> None:
    words = re.sub("<[^>]+>", "", headline(recorded).html)
    assert "shapes &lt;tiny&gt;, w8a8 and w4a8 edges made 4 videos each from the same prompts, seeds" in words
    assert "0.67×" not in words  # of a CPU's reference arithmetic
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
    assert figure(41.26, display("psnr")) == "41.3 dB"
    assert (figure(None, display("ssim")), figure(float("inf"), display("psnr"))) == ("–", "identical")
    assert interval({"low": 0.5, "high": 0.75}, 2) == "0.50 – 0.75"
    assert interval({"low": None, "high": None}, 2) == ""
    assert [size(count) for count in (12, 3_400, 12_270_000, 28_600_000_000)] == [
        "12 B",
        "3.4 kB",
        "12.3 MB",
        "28.6 GB",
    ]
    assert (size(None), share(None), share(0.583)) == ("–", "–", "58%")
    assert [level_text(level) for level in (0.01, 0.001, 0.025)] == ["1%", "0.1%", "2.5%"]
    assert [duration(value) for value in (None, 0.0456, 1.234, 123.4)] == ["–", "45.6 ms", "1.23 s", "123 s"]
    keys = ["mine", "clip_frame", "judged", "ssim", "psnr"]
    assert [m.key for m in ordered(keys)] == ["psnr", "ssim", "judged", "clip_frame", "mine"]


def test_models_differ_in_form_as_well_as_colour() -> None:
    assert len({mark(place, 0, 0, 5) for place in range(1, 5)}) == 4
