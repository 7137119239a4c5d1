"""The judging script of examples/shapes, on drawn clips: it is right about them, and splits them as it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import judged_clips


@pytest.fixture
def judge(shapes: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("shapes_judge", shapes / "judge.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_contact_sheet_has_a_cell_for_each_video(judge: ModuleType) -> None:
    clips = judged_clips()[:4]
    videos = (draw(clips, torch.Generator().manual_seed(0)) / 2 + 0.5).permute(0, 2, 3, 4, 1).numpy()
    sheet = judge.contact_sheet(videos, clips)
    assert sheet.size == (3 * (5 * 98 + 8), 2 * 112)
    # The first frame of the first video, in its middle and in its corner.
    red, green, blue = (round(255 * value) for value in videos[0, 0, 0, 0].tolist())
    assert sheet.getpixel((0, 13)) == (red, green, blue)
