from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from quant.eval.report.players import amplification, difference_video, players, selection, stored_frames, to_bytes
from quant.eval.results.recorded import read
from tests.eval.report.small_run import FPS, PROMPTS, SHAPE, fingerprint, sample_id, write_run, write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("players") / "run")


def decoded(mp4: bytes) -> npt.NDArray[np.float64]:
    with av.open(io.BytesIO(mp4), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video: npt.NDArray[np.float64] = np.stack(frames).astype(np.float64) / 255
    return video


def test_stored_frames_keep_16_bits(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 65536, (*SHAPE, 3)) / 65535
    write_video(tmp_path / "a.mkv", clip, "ffv1", "gbrp16le")
    assert np.array_equal(np.rint(stored_frames(tmp_path / "a.mkv") * 65535), np.rint(clip * 65535))


def test_a_difference_is_amplified_clipped_and_plays_in_browsers() -> None:
    original = np.full((3, 10, 15, 3), 0.5, dtype=np.float32)
    candidate = original.copy()
    candidate[:, :, :5] += 0.02  # 16 times: 0.32
    candidate[:, :, 10:] -= 0.2  # 16 times: beyond 1
    mp4 = difference_video(original, candidate, 16, fps=5)
    with av.open(io.BytesIO(mp4), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == 5
    frames = decoded(mp4)
    count, height, width, _ = frames.shape
    assert count == 3
    assert width >= 256
    assert height % 2 == width % 2 == 0
    third = width // 3
    means = [frames[:, :, at * third + 12 : (at + 1) * third - 12].mean() for at in range(3)]
    assert means == pytest.approx([0.32, 0.0, 1.0], abs=0.02)


def test_best_median_and_worst_are_shown(run: Path) -> None:
    chosen = selection(read(run))
    assert [(shown.why, shown.sample["seed"]) for shown in chosen] == [("worst", 1), ("median", 2), ("best", 3)]


def test_one_sample_is_shown_once(run: Path) -> None:
    recorded = read(run)
    body: dict[str, Any] = {**recorded.body, "samples": recorded.samples[:1]}
    (shown,) = selection(type(recorded)(recorded.folder, body))
    assert shown.why == "worst and median and best"


def test_videos_in_the_page_are_the_previews_and_the_differences(run: Path) -> None:
    html = players(read(run)).html
    videos = [base64.b64decode(data) for data in re.findall(r'src="data:video/mp4;base64,([^"]+)"', html)]
    assert len(videos) == 3 * 5
    worst = sample_id(PROMPTS[1], 1)
    assert videos[0] == (run / "videos" / "original" / f"{worst}.preview.mp4").read_bytes()
    (factor,) = set(re.findall(r"difference × (\d+)", html))
    ours, theirs = (stored_frames(run / "frames" / fingerprint(name) / f"{worst}.mkv") for name in ("original", "w8a8"))
    expected = np.clip(np.abs(ours - theirs) * int(factor), 0, 1).mean()
    assert decoded(videos[2]).mean() == pytest.approx(expected, abs=0.01)
    assert html.count(f'data-fps="{FPS}"') == 3
    assert f"times {factor} in every row and clipped" in html
    assert "&lt;b&gt;large&lt;/b&gt;" in html


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    worst = sample_id(PROMPTS[1], 1)
    (copy / "videos" / "w8a8" / f"{worst}.preview.mp4").unlink()
    (copy / "frames" / fingerprint("original") / f"{worst}.mkv").unlink()
    html = players(read(copy)).html
    assert html.count("<video") == 3 * 5 - 1 - 2
    assert f"no preview: videos/w8a8/{worst}.preview.mp4 is missing" in html
    assert html.count("no difference: the stored frames are missing") == 2


def test_bytes_are_rounded_and_clipped() -> None:
    values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 1.0, 2.0], dtype=np.float32)
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 127, 255, 255]


@pytest.mark.parametrize(
    ("difference", "factor"), [(1.0, 1), (0.6, 1), (0.5, 2), (0.3, 2), (0.1, 8), (0.01, 64), (1e-6, 256), (0.0, 256)]
)
def test_a_typical_difference_becomes_half_to_all_of_the_range(difference: float, factor: int) -> None:
    differences = [np.full((2, 3, 4, 4, 3), difference, dtype=np.float32)]
    assert amplification(differences) == factor
    assert difference < 0.5 / 256 or 0.5 <= difference * factor <= 1


def test_one_broken_video_does_not_darken_the_others() -> None:
    differences = np.full((5, 3, 4, 4, 3), 0.1, dtype=np.float32)
    differences[0] = 1
    assert amplification([differences]) == 8


def test_one_factor_is_for_every_model() -> None:
    models = [np.full((2, 3, 4, 4, 3), value, dtype=np.float32) for value in (0.1, 0.1, 0.9)]
    assert amplification(models) == 8
    assert amplification([]) == 256
