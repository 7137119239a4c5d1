"""How VBench is started, by a stand-in that writes what it would; VBench itself needs CUDA and its networks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.metrics.vbench import COMMAND, DIMENSIONS, execute, parse_results, run_vbench

SAMPLES = ["0a", "1b"]
#: A program that is on every machine, in the place of uvx.
HERE = ("sh", "-c", "vbench")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for name in ("0a.mp4", "0a.preview.mp4", "1b.mp4", "1b.preview.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


class Stand:
    """Rates as VBench 0.1.5 does: every .mp4 of the folder."""

    def __init__(self, status: int = 0, writes: bool = True, other: str | None = None) -> None:
        self.status, self.writes, self.other = status, writes, other
        self.asked: list[dict[str, str]] = []

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        assert list(command[:4]) == [*HERE, "evaluate"]
        options = dict(zip(command[4::2], command[5::2], strict=True))
        self.asked.append(options)
        for value in options.values():  # VBench puts them into a shell's command line
            assert shlex.split(f'"{value}"') == [value]
        folder = Path(options["--videos_path"])
        names = [f"{sample}.mp4" for sample in SAMPLES]
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {name: name.encode() for name in names}
        if self.writes:
            rated: list[dict[str, Any]] = [
                {"video_path": str(folder / name), "video_results": 0.25 * (index + 1)}
                for index, name in enumerate(names)
            ]
            out = Path(options["--output_path"])
            out.mkdir()
            body = {self.other or options["--dimension"]: [0.375, rated]}
            (out / "results_2026-01-01-00:00:00_full_info.json").write_text("[]", encoding="utf-8")
            (out / "results_2026-01-01-00:00:00_eval_results.json").write_text(json.dumps(body), encoding="utf-8")
        return self.status, "…\nRuntimeError: no CUDA"


def test_each_dimension_is_rated_on_the_samples_alone(videos: Path) -> None:
    stand, told = Stand(), list[tuple[str, int, int]]()
    chosen = ["subject_consistency", "motion_smoothness"]
    twice = [*chosen, "subject_consistency"]
    found = run_vbench(
        videos, SAMPLES, dimensions=twice, command=HERE, execute=stand, progress=lambda *what: told.append(what)
    )
    assert found == {name: {"score": 0.375, "videos": {"0a": 0.25, "1b": 0.5}} for name in chosen}
    assert [each["--dimension"] for each in stand.asked] == chosen
    assert {each["--mode"] for each in stand.asked} == {"custom_input"}
    assert told == [("VBench subject_consistency", 1, 2), ("VBench motion_smoothness", 2, 2)]
    assert not Path(stand.asked[0]["--videos_path"]).exists()


def test_all_dimensions_by_default(videos: Path) -> None:
    stand = Stand()
    assert tuple(run_vbench(videos, SAMPLES, command=HERE, execute=stand)) == DIMENSIONS


@pytest.mark.parametrize("stand", [Stand(status=1), Stand(writes=False)])
def test_a_run_that_fails_says_what_vbench_said(videos: Path, stand: Stand) -> None:
    with pytest.raises(
        QuantError, match=r"wrote no subject_consistency of .*; it said last: .*… \| RuntimeError: no CUDA$"
    ):
        run_vbench(videos, SAMPLES, command=HERE, execute=stand)


def test_other_results_are_refused(videos: Path) -> None:
    with pytest.raises(QuantError, match=r"_eval_results.json: holds scene, not subject_consistency"):
        run_vbench(videos, SAMPLES, command=HERE, execute=Stand(other="scene"))


def test_what_cannot_be_run(videos: Path) -> None:
    assert COMMAND[0] == "uvx" and "vbench==0.1.5" in COMMAND
    with pytest.raises(QuantError, match=r"no-such-uvx: not found; VBench needs an environment of its own.*install uv"):
        run_vbench(videos, SAMPLES, command=("no-such-uvx",), execute=Stand())
    with pytest.raises(QuantError, match=r"dimensions \['color'\]: choose from subject_consistency"):
        run_vbench(videos, SAMPLES, dimensions=["color"], command=HERE, execute=Stand())
    with pytest.raises(QuantError, match=r"dimensions \[\]: choose from subject_consistency"):
        run_vbench(videos, SAMPLES, dimensions=[], command=HERE, execute=Stand())
    with pytest.raises(QuantError, match="0 of 0 videos are not there"):
        run_vbench(videos, [], command=HERE, execute=Stand())
    with pytest.raises(QuantError, match="1 of 3 videos are not there"):
        run_vbench(videos, [*SAMPLES, "2c"], command=HERE, execute=Stand())


def test_a_folder_whose_name_a_shell_reads(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = videos / "a$HOME"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with pytest.raises(QuantError, match="VBench cannot use this folder's name; set TMPDIR"):
        run_vbench(videos, SAMPLES, command=HERE, execute=Stand())


def test_programs_are_run_to_their_end() -> None:
    assert execute(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr\n")
    assert execute(["printf", r"\377"]) == (0, "\ufffd")  # not every program writes UTF-8


SAMPLE = Path(__file__).parent / "sample_eval_results.json"
FIRST, SECOND = "0a1b2c3d4e5f", "5f4e3d2c1b0a"


def test_scores_by_sample() -> None:
    found = parse_results(SAMPLE, {FIRST, SECOND})
    assert found == {
        "subject_consistency": {"score": 0.9541015625, "videos": {FIRST: 0.966796875, SECOND: 0.94140625}},
        "dynamic_degree": {"score": 0.5, "videos": {FIRST: 1.0, SECOND: 0.0}},
        "imaging_quality": {"score": 0.60546875, "videos": {FIRST: 0.564453125, SECOND: 0.646484375}},
    }


def test_each_score_and_its_videos_have_one_scale() -> None:
    for each in parse_results(SAMPLE, [FIRST, SECOND]).values():
        assert each["score"] == pytest.approx(sum(each["videos"].values()) / 2)
        assert all(type(value) is float for value in each["videos"].values())


@pytest.mark.parametrize("samples", [[FIRST], [FIRST, SECOND, "third"], [FIRST, "other"]])
def test_all_videos_must_be_there_and_no_others(samples: list[str]) -> None:
    with pytest.raises(QuantError, match=r"sample_eval_results.json: subject_consistency: 2 videos that are not"):
        parse_results(SAMPLE, samples)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"video_path": "videos/a.mp4", "video_results": 0.5, **changes}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "cannot be read as VBench's results"),
        ("[" * 100_000, "cannot be read as VBench's results .*nested too deeply"),
        ("[]", "no object with a dimension in it"),
        ("{}", "no object with a dimension in it"),
        (json.dumps({"x": 0.5}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5]}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5, {}]}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5, ["a.mp4"]]}), "x: an entry without a video_path"),
        (json.dumps({"x": [0.5, [{"video_results": 0.5}]]}), "x: an entry without a video_path"),
        (json.dumps({"x": [0.5, [_entry(video_results=None)]]}), "x: a.mp4: None is no finite number"),
        (json.dumps({"x": [float("nan"), [_entry()]]}), "x: nan is no finite number"),
        (json.dumps({"x": ["0.5", [_entry()]]}), "x: '0.5' is no finite number"),
        (json.dumps({"x": [0.5, [_entry(), _entry()]]}), "x: 2 videos that are not the 1 given"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "results_eval_results.json"
    file.write_text(body, encoding="utf-8")
    with pytest.raises(QuantError, match=f"results_eval_results.json: {message}"):
        parse_results(file, ["a"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"none.json: cannot be read .*No such file"):
        parse_results(tmp_path / "none.json", ["a"])
