"""VideoMAE of the shapes example and a tiny V-JEPA 2, against transformers' own preprocessing and models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from quant.errors import QuantError
from quant.eval.networks.kinds import extractor
from quant.eval.networks.video_transformers import Preprocessing, read_preprocessing

NETWORKS = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks"
VIDEOMAE = str(NETWORKS / "videomae")


def _video(frames: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth 8-bit frames, [F, H, W, 3]: resizing noise would hide a shift behind rounding."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin(0.3 * x + 0.2 * t), np.cos(0.25 * y - 0.1 * t), np.sin(0.2 * (x + y) + t)]
    return np.rint(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)


def _as_floats(video: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return video.astype(np.float32) / np.float32(255)


def _logits_of_transformers(video: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
    model = transformers.VideoMAEForVideoClassification.from_pretrained(VIDEOMAE, dtype=torch.float32).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(VIDEOMAE)
    with torch.inference_mode():
        logits: torch.Tensor = model(**processor(list(video), return_tensors="pt")).logits[0]
    return logits


def _logits_of_features(features: np.ndarray[Any, np.dtype[np.float32]]) -> torch.Tensor:
    model = transformers.VideoMAEForVideoClassification.from_pretrained(VIDEOMAE, dtype=torch.float32)
    with torch.inference_mode():
        logits: torch.Tensor = model.classifier(torch.from_numpy(features))
    return logits


@pytest.mark.parametrize(("size", "tolerance"), [((32, 32), 1e-4), ((32, 48), 1e-4), ((72, 56), 0.05)])
def test_videomaes_features_are_what_its_head_sees(size: tuple[int, int], tolerance: float) -> None:
    """Through the head they are the logits of transformers' own pipeline, which rounds to 8 bits where it resizes."""
    video = _video(16, *size)
    found = extractor(f"videomae:{VIDEOMAE}")
    features = found(_as_floats(video))
    assert features.shape == (found.dimension,) == (128,)
    expected = _logits_of_transformers(video)
    assert float(expected.std()) > 1
    torch.testing.assert_close(_logits_of_features(features), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("frames", [9, 31])
def test_videos_of_another_length_are_resampled(frames: int) -> None:
    found = extractor(f"videomae:{VIDEOMAE}")
    video = _as_floats(_video(frames, 32, 32))
    chosen = [round(i * (frames - 1) / 15) for i in range(16)]
    np.testing.assert_array_equal(found(video), found(np.ascontiguousarray(video[chosen])))
    assert found.conventions["frames"].startswith("16, evenly")


def test_conventions_say_what_is_done() -> None:
    found = extractor(f"videomae:{VIDEOMAE}")
    assert found.name == f"videomae-{found.conventions['weights_sha256'][:8]}"
    assert found.conventions["resize"] == "shorter side to 32, bilinear, antialiased; 32x32 from the centre"
    assert found.conventions["feature"].endswith("after the layer norm of the classifier")
    assert found.conventions["source"] == VIDEOMAE
    assert found.covariance_ddof == 1


def test_a_videomae_without_a_head_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    model = transformers.VideoMAEModel.from_pretrained(VIDEOMAE, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path)
    shutil.copy(Path(VIDEOMAE) / "preprocessor_config.json", tmp_path)
    video = _as_floats(_video(16, 32, 32))
    with torch.inference_mode():
        hidden = model((torch.from_numpy(video).permute(0, 3, 1, 2)[None] - 0.5) / 0.5).last_hidden_state
    np.testing.assert_allclose(extractor(f"videomae:{tmp_path}")(video), hidden.mean(dim=1)[0], rtol=1e-4, atol=1e-5)


@pytest.fixture
def vjepa(tmp_path: Path) -> Path:
    """A V-JEPA 2 of random weights for 8 frames of 32x32."""
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=16, frames_per_clip=8, tubelet_size=2, hidden_size=48, num_hidden_layers=2,
        num_attention_heads=2, pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2,
        initializer_range=0.2,
    )  # fmt: skip
    transformers.VJEPA2Model(config).save_pretrained(tmp_path)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    asked = {"size": {"shortest_edge": 36}, "crop_size": 32, "do_center_crop": True, "resample": 2}
    text = json.dumps({**asked, "image_mean": mean, "image_std": std})
    (tmp_path / "video_preprocessor_config.json").write_text(text)
    return tmp_path


def test_v_jepa_gives_the_mean_of_its_encoders_tokens(vjepa: Path) -> None:
    found = extractor(f"vjepa:{vjepa}")
    video = _as_floats(_video(12, 36, 40))
    chosen = video[[0, 2, 3, 5, 6, 8, 9, 11], 2:34, 4:36]
    pixels = (chosen - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    model = transformers.VJEPA2Model.from_pretrained(vjepa).eval()
    with torch.inference_mode():
        hidden = model.get_vision_features(torch.from_numpy(pixels).float().permute(0, 3, 1, 2)[None])
    assert hidden.shape == (1, 4 * 2 * 2, 48)
    np.testing.assert_allclose(found(video), hidden.mean(dim=1)[0], rtol=1e-4, atol=1e-5)
    assert found.name.startswith("vjepa-") and found.dimension == 48
    assert found.conventions["frames"].startswith("8, evenly")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Preprocessing(9, None, (8, 8), (0.5,), (2.0,))),
        ({"size": {"shortest_edge": 40}, "do_center_crop": False}, Preprocessing(40, None, None, (0.5,), (2.0,))),
        ({"size": {"height": 4, "width": 6}}, Preprocessing(None, (4, 6), (8, 8), (0.5,), (2.0,))),
        ({"do_resize": False}, Preprocessing(None, None, (8, 8), (0.5,), (2.0,))),
        ({"crop_size": {"height": 4, "width": 6}}, Preprocessing(9, None, (4, 6), (0.5,), (2.0,))),
        ({"do_normalize": False, "do_rescale": None}, Preprocessing(9, None, (8, 8), (0.0,) * 3, (1.0,) * 3)),
    ],
)
def test_preprocessing_is_read_from_its_file(tmp_path: Path, config: dict[str, Any], expected: Preprocessing) -> None:
    text = json.dumps({"size": 9, "crop_size": 8, "image_mean": [0.5], "image_std": [2.0], **config})
    (tmp_path / "preprocessor_config.json").write_text(text)
    assert read_preprocessing(str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": None}, "has no 'size'"),
        ({"size": {"longest_edge": 9}}, "has no 'height'"),
        ({"crop_size": None}, "has no 'crop_size'"),
        ({"crop_size": {"height": 8}}, "has no 'width'"),
        ({"size": [9, 9]}, "is not understood: 'list' object has no"),
        ({"image_std": 2.0}, "is not understood: 'float' object is not iterable"),
    ],
)
def test_a_step_whose_size_the_file_does_not_say_is_not_guessed(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    text = json.dumps({"size": 9, "crop_size": 8, "image_mean": [0.5], "image_std": [2.0], **config})
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(QuantError, match=f"^preprocessor_config.json of {tmp_path} {message}"):
        read_preprocessing(str(tmp_path))


def test_frames_of_another_size_than_the_models_are_refused(tmp_path: Path, vjepa: Path) -> None:
    shutil.copytree(VIDEOMAE, tmp_path / "videomae")
    text = '{"size": 32, "do_center_crop": false, "image_mean": [0.5], "image_std": [0.5]}'
    for kind, folder in (("videomae", tmp_path / "videomae"), ("vjepa", vjepa)):
        (folder / "preprocessor_config.json").write_text(text)
        (folder / "video_preprocessor_config.json").write_text(text)
        with pytest.raises(QuantError, match=f"{folder}: its preprocessing leaves 48x32, its model takes 32x32"):
            extractor(f"{kind}:{folder}")(_as_floats(_video(4, 32, 48)))


def test_folders_that_are_no_extractors(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="clip is a clip, not a videomae"):
        extractor(f"videomae:{NETWORKS / 'clip'}")
    with pytest.raises(QuantError, match="videomae is a videomae, not a vjepa2"):
        extractor(f"vjepa:{VIDEOMAE}")
    with pytest.raises(QuantError, match="cannot be loaded"):
        extractor(f"videomae:{tmp_path / 'gone'}")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path(VIDEOMAE) / name, tmp_path)
    with pytest.raises(QuantError, match=r"has no video_preprocessor_config.json and no preprocessor_config.json"):
        extractor(f"videomae:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 3, "image_mean": [0.5], "image_std": [0.5]}')
    with pytest.raises(QuantError, match="resampling filter 3"):
        extractor(f"videomae:{tmp_path}")
