from __future__ import annotations

from typing import Any

from quant.eval.report.speed_table import speed_table
from quant.eval.results import speedup
from tests.eval.report.pages import rows, words
from tests.eval.report.small_run import recorded, speed

GPU: dict[str, Any] = {
    "name": "NVIDIA <H200>",
    "type": "cuda",
    "clocks": {
        "before": {"sm_mhz": 210.0, "max_sm_mhz": 1980.0, "memory_mhz": 2619.0},
        "after": {"sm_mhz": 1965.0, "max_sm_mhz": 1980.0, "memory_mhz": None},
    },
    "power_w": {"before": {"draw": 75.5, "limit": None}, "after": {"draw": 650.0, "limit": 700.0}},
}


def test_where_nothing_was_timed_it_says_so() -> None:
    assert words(speed_table(recorded(speed=None)).html) == "Nothing was timed in this run."


def test_a_line_a_stage_with_ratio_tail_and_estimate() -> None:
    found = rows(speed_table(recorded()).html, "Times by stage")
    head = ["model", "stage", "reference arithmetic not a kernel’s time, median", "p90", "variation", "n"]
    assert found[0] == [*head, "estimated H100 SXM"]
    # 0.4 s and 0.9 s of the original; w8a8 takes 0.6 s and 0.5 s. p90 is 1.1 of the median.
    assert found[3] == ["original", "one denoising step", "400 ms", "440 ms", "3.0%", "5", "900 ms"]
    step = next(row for row in found if row[:2] == ["w8a8", "one denoising step"])
    assert step == ["w8a8", "one denoising step", "600 ms 0.67× as fast", "660 ms", "3.0%", "5", "500 ms 1.80× as fast"]
    whole = next(row for row in found if row[:2] == ["w4a8 edges", "end to end"])
    assert whole == ["w4a8 edges", "end to end", "2.72 s 0.62× as fast", "2.99 s", "3.0%", "5", "–"]
    assert [row[1] for row in found[1:6]] == list(speedup.STAGES.values())
    assert len(found) == 1 + 3 * 5


def test_times_of_a_gpu_are_measured_and_no_column_is_for_what_was_not_estimated() -> None:
    timed = speed() | {"device": GPU, "label": "measured on NVIDIA <H200>", "estimated": None}
    html = speed_table(recorded(speed=timed)).html
    assert rows(html, "Times by stage")[0] == ["model", "stage", "measured median", "p90", "variation", "n"]
    assert "reference arithmetic" not in html
    told = "NVIDIA <H200>; SM clock 210 MHz before, 1965 MHz after, of at most 1980 MHz; memory clock 2619 MHz before; "
    assert f"device {told}power 75.5 W before, 650 W after, of at most 700 W" in words(html)
    assert "<H200>" not in html
    assert "w8a8: time by kernel" in words(html)


def test_the_samples_that_were_timed_are_named_with_their_files() -> None:
    files = [{"file": "a.png", "sha256": "0"}, {"file": "<b>.png", "sha256": "1"}]
    inputs = {"prompt": "a fox", "video": {"file": "clip.mp4", "sha256": "2"}, "images": files, "strength": 0.6}
    sample = {"id": "0" * 12, "prompt": "a fox", "seed": 3}
    timed = speed() | {"samples": [{**sample, "inputs": inputs}, sample]}
    assert rows(speed_table(recorded(speed=timed)).html, "Samples that were timed")[1:] == [
        ["a fox", "3", "video clip.mp4, images a.png + <b>.png, strength 0.6"],
        ["a fox", "3", "–"],
    ]
    assert "timed on" not in words(speed_table(recorded()).html)


def test_a_cpu_runs_operations_and_no_kernels() -> None:
    text = words(speed_table(recorded()).html)
    assert "device a CPU what the times are reference arithmetic on a CPU: not a kernel's time" in text
    assert "Time by operation: share of the second step by operation." in text
    assert "w8a8: time by operation 60.0% aten::mm 25.0% aten::softmax" in text


def test_all_that_was_recorded_of_the_shares_is_shown_and_the_rest_stays_last() -> None:
    timed = speed()
    named = [{"name": f"op{index}", "share": 0.04} for index in range(12)]
    timed["models"]["w8a8"]["kernels"] = [*named, {"name": "all others", "share": 0.52}]
    text = words(speed_table(recorded(speed=timed)).html)
    assert "4.0% op11 52.0% all others" in text
    for model in timed["models"].values():
        model["kernels"] = None
    assert "Kernels’ shares of the time were not recorded." in words(speed_table(recorded(speed=timed)).html)


def test_what_failed_or_could_not_be_had_is_said() -> None:
    timed = speed()
    timed["models"]["w8a8"] |= {"failed": "out of <memory>", "stages": None}
    timed["models"]["w4a8 edges"]["notes"] = ["kernels: no profiler"]
    timed["estimated"]["models"].pop("w8a8")
    html = speed_table(recorded(speed=timed)).html
    assert "w8a8 failed: out of <memory>. w4a8 edges, kernels: no profiler." in words(html)
    assert "out of &lt;memory&gt;" in html
    assert "w8a8" not in {row[0] for row in rows(html, "Times by stage")}
    assert [row[0] for row in rows(html, "First call and memory")[1:]] == ["original", "w4a8 edges"]
    del timed["models"]["w4a8 edges"]
    assert "w4a8 edges was not timed." in words(speed_table(recorded(speed=timed)).html)


def test_an_estimate_of_a_model_that_failed_is_still_shown_beside_no_time() -> None:
    timed = speed()
    timed["models"]["w8a8"] |= {"failed": "out of memory", "stages": None}
    found = rows(speed_table(recorded(speed=timed)).html, "Times by stage")
    estimate = ["w8a8", "one denoising step", "–", "–", "–", "–", "500 ms 1.80× as fast"]
    assert [row for row in found if row[0] == "w8a8"] == [estimate]


def test_the_first_call_and_memory() -> None:
    found = recorded()
    timed: Any = found.speed
    timed["models"]["w8a8"] |= {"first_call_s": 12.25, "compile_s": 9.5, "peak_memory_bytes": 3_250_000_000}
    found.models[2]["stored_bytes"] = None  # type: ignore[index]
    assert rows(speed_table(found).html, "First call and memory") == [
        ["model", "first call", "of it compiling", "peak memory", "stored"],
        ["original", "2.50 s", "–", "not taken", "12.3 MB"],
        ["w8a8", "12.2 s", "9.50 s", "3.2 GB", "7.1 MB"],
        ["w4a8 edges", "2.50 s", "–", "not taken", "–"],
    ]
