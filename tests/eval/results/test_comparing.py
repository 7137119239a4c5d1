from __future__ import annotations

import copy
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.results.comparing import between_runs, candidate_pairs, within_run


def _compared(**ssim: list[float]) -> dict[str, Any]:
    """Candidates by name with an SSIM for each sample."""
    count = len(next(iter(ssim.values())))
    ids = [f"{number:012x}" for number in range(count)]
    models = [{"name": "original", "scheme": "bf16", "scores": {}}]
    for name, values in ssim.items():
        scores = {key: {"ssim": value, "psnr": None} for key, value in zip(ids, values, strict=True)}
        models.append({"name": name, "scheme": "W8A8", "scores": scores})
    return {
        "conditions": {"fingerprint": "ab", "settings": {"height": 8}, "dtype": "float32"},
        "samples": [{"id": key, "prompt": f"prompt {key}", "latents_sha256": f"noise of {key}"} for key in ids],
        "models": models,
    }


def test_differences_are_of_common_samples() -> None:
    first, second = _compared(w8a8=[0.5, 0.7, 0.9]), _compared(w8a8=[0.6, 0.8, 0.9])
    second["samples"][2]["latents_sha256"] = "other noise"
    rows, note = between_runs(first, second, "one", "two")
    assert rows[1] == (
        *("w8a8", "W8A8", "ssim", "2", "0.6", "0.7", "+0.1", "[+0.1, +0.1]", "2 of 2", "not enough samples"),
    )
    assert len(rows) == 2  # every PSNR is of identical videos
    assert "2 samples; " in note and "A  one\nB  two\n" in note


def test_single_candidates_are_compared_whatever_their_names_and_others_by_name() -> None:
    one, other = _compared(a=[0.5, 0.5]), _compared(b=[0.75, 0.75])
    assert between_runs(one, other, "one", "two")[0][1][0] == "a / b"
    rows, _ = between_runs(_compared(a=[0.5, 0.5], b=[0.5, 0.5]), _compared(b=[0.75, 0.75], c=[0.0, 0.0]), "one", "two")
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
    first = _compared(w8a8=[0.5, 0.7])
    second = copy.deepcopy(first)
    within = second
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(QuantError, match=f"one and two: .*{message}"):
        between_runs(first, second, "one", "two")


def test_candidates_of_a_run_are_compared_with_each_other() -> None:
    steps = [0.001 * number for number in range(12)]
    run = _compared(a=[0.8 + each for each in steps], b=[0.7 + 2 * each for each in steps], c=[0.5] * 12)
    rows, note = within_run(run, "run")
    assert [row[:4] for row in rows[1:]] == [
        ("a", "b", "ssim", "12"),
        ("a", "c", "ssim", "12"),
        ("b", "c", "ssim", "12"),
    ]
    assert [row[-2:] for row in rows[1:]] == [("0 of 12", "worse")] * 3
    assert rows[2][4] == "-0.3055"
    assert note.startswith("12 samples; ") and "\n3 comparisons; better and worse: by a sign test" in note
    run["models"][2]["failed"] = "no memory"
    assert [row[:2] for row in within_run(run, "run")[0][1:]] == [("a", "c")]
    run["models"][3]["failed"] = "no memory"
    with pytest.raises(QuantError, match=r"^run: fewer than two candidates were scored"):
        within_run(run, "run")


def test_a_lower_lpips_is_better_and_an_identical_video_the_best() -> None:
    run = _compared(near=[0.5] * 9, far=[0.5] * 9)
    for number, scores in enumerate(run["models"][1]["scores"].values()):
        scores |= {"lpips_alex": 0.1, "psnr": None if number % 2 else 50.0}
    for scores in run["models"][2]["scores"].values():
        scores |= {"lpips_alex": 0.2, "psnr": 40.0}
    found = {pair.metric.key: pair for pair in candidate_pairs(run)}
    decided = {key: pair.outcome for key, pair in found.items()}
    assert decided == {"psnr": "worse", "ssim": "tie", "lpips_alex": "worse"}
    assert found["lpips_alex"].found.difference.value == pytest.approx(0.1)
    assert found["psnr"].found.worse == 9 and found["psnr"].found.difference.n == 5
    assert found["psnr"].means == (50.0, 40.0)


def test_samples_of_one_prompt_and_other_noise_count_as_one() -> None:
    run = _compared(a=[0.5] * 12, b=[0.6, 0.7] * 6)
    for number, sample in enumerate(run["samples"]):
        sample["prompt"] = f"prompt {number // 2}"
    (pair,) = candidate_pairs(run)
    assert (pair.found.samples, pair.found.better, pair.outcome) == (6, 6, "not enough samples")
    for number, sample in enumerate(run["samples"]):
        sample["inputs"] = {"video": str(number)}
    (pair,) = candidate_pairs(run)
    assert (pair.found.samples, pair.outcome) == (12, "better")
