"""The picture of a run: what is in which place of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from quant.eval.report.sheet import FRAMES, GAP, WIDEST, WIDTH, Cell, Strip, drawn, in_line, write_sheet
from quant.files.video_files import write_bytes
from tests.eval.report.small_run import SHAPE, write_run


def test_first_middle_and_last_frame_stand_side_by_side_under_the_heading() -> None:
    video = np.zeros((5, 8, 24, 3), dtype=np.uint8)
    video[0, ..., 0], video[2, ..., 1], video[4, ..., 2] = 200, 200, 200
    strip = Strip("a prompt", (Cell(None), Cell(in_line(video), "40 dB")))
    pixels = np.asarray(drawn([("source", ""), ("original", "bf16")], [strip]))
    for channel, place in ((0, 0), (1, 1), (2, 2)):
        seen = np.argwhere((pixels[..., channel] == 200) & (pixels.sum(axis=2) == 200))
        (top, left), (bottom, right) = seen.min(axis=0), seen.max(axis=0)
        assert (bottom + 1 - top, right + 1 - left) == (8 * 3, 24 * 3)  # enlarged by a whole factor
        first = pixels.shape[1] // 2 + 14
        assert left == first + place * (WIDTH + GAP)


def test_large_videos_are_made_smaller() -> None:
    video = np.full((2, 240, 960, 3), 9, dtype=np.uint8)
    line = in_line(video)
    assert line.shape == (60, FRAMES * (WIDEST + GAP), 3)
    assert (line[:, :WIDEST] == 9).all()


def test_a_run_is_drawn_with_what_its_videos_were_made_from(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_sheet(run, tmp_path / "without.png")
    body = json.loads((run / "results.json").read_text())
    clip = np.full((9, *SHAPE[1:], 3), 7, dtype=np.uint8)
    write_bytes(run / "inputs" / "cafe", clip, fps=8)
    body["samples"][0]["inputs"] = {"prompt": "a", "video": {"file": "clip.mp4", "sha256": "cafe"}, "strength": 0.5}
    (run / "results.json").write_text(json.dumps(body))
    write_sheet(run, tmp_path / "with.png")
    with Image.open(tmp_path / "without.png") as without, Image.open(tmp_path / "with.png") as picture:
        assert picture.width > without.width and picture.height == without.height
        assert (np.asarray(picture) == 7).all(axis=2).sum() >= 3 * SHAPE[1] * SHAPE[2]
    shutil.rmtree(run / "frames")
    write_sheet(run, tmp_path / "empty.png")  # what is missing stays empty
