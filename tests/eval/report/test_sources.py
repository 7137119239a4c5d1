"""What a sample was made from: read from what a run kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from quant.eval.report.sources import sources
from quant.eval.results.recorded import Recorded
from quant.files.video_files import write_bytes


def test_files_are_shown_by_argument_and_what_is_missing_is_said(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    write_bytes(tmp_path / "inputs" / "aa", clip, fps=8)
    Image.fromarray(clip[0]).save(tmp_path / "inputs" / "bb", format="png")
    (tmp_path / "inputs" / "cc").mkdir()
    for i, frame in enumerate(clip[:2]):
        Image.fromarray(frame).save(tmp_path / "inputs" / "cc" / f"{i}.png")
    inputs = {
        "prompt": "a fox",
        "strength": 0.5,
        "video": {"file": "clip.mp4", "sha256": "aa"},
        "image": {"file": "picture.png", "sha256": "bb"},
        "mask": {"file": "masks", "sha256": "cc"},
        "control_video": {"file": "gone.mp4", "sha256": "dd"},
        "latents": {"file": "noise.safetensors", "sha256": "ee"},
        "reference_images": [{"file": "a.png", "sha256": "bb"}, {"file": "b.mp4", "sha256": "aa"}],
    }
    found = sources(Recorded(tmp_path, {}), {"inputs": inputs}, 4)
    assert set(found) == {"video", "image", "mask", "control_video", "reference_images"}
    for name, frames in (("video", clip[:4]), ("image", clip[:1]), ("mask", clip[:2])):
        assert np.array_equal(np.asarray(found[name]), frames)
    assert np.array_equal(np.asarray(found["reference_images"]), clip[[0, 0, 1, 2]])
    assert "gone.mp4" in str(found["control_video"])
    assert sources(Recorded(tmp_path, {}), {}) == {}
