"""The judging script of examples/shapes, on drawn clips: it is right about them, and splits them as it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import heldout_clips, judged_clips, trained_clips


@pytest.fixture
def judge(shapes: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("shapes_judge", shapes / "judge.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_drawn_clips_are_right_on_both_sides_of_the_split(judge: ModuleType) -> None:
    clips = [*heldout_clips()[:3], *trained_clips()[:2]]
    videos = (draw(clips, torch.Generator().manual_seed(0)) / 2 + 0.5).permute(0, 2, 3, 4, 1).numpy()
    report = judge.judge(videos, clips)
    assert list(report) == ["all", "never trained", "trained"]
    assert all(share == 1.0 for shares in report.values() for share in shares.values())
    # Wrong clips in the second half spoil that half only.
    swapped = judge.judge(videos, [*clips[:3], *reversed(clips[3:])])
    assert swapped["never trained"]["all"] == 1.0 and swapped["trained"]["all"] == 0.0


def test_contact_sheet_has_a_cell_for_each_video(judge: ModuleType) -> None:
    clips = judged_clips()[:4]
    videos = (draw(clips, torch.Generator().manual_seed(0)) / 2 + 0.5).permute(0, 2, 3, 4, 1).numpy()
    sheet = judge.contact_sheet(videos, clips)
    assert sheet.size == (3 * (5 * 98 + 8), 2 * 112)
    # The first frame of the first video, in its middle and in its corner.
    red, green, blue = (round(255 * value) for value in videos[0, 0, 0, 0].tolist())
    assert sheet.getpixel((0, 13)) == (red, green, blue)
