"""A small run folder as `quant eval run` leaves it: three models, four samples, real videos."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

import quant
from quant.eval.results.recorded import Recorded

#: Frames, height, width.
SHAPE = (6, 24, 32)
FPS = 8
PROMPTS = (
    "a small red circle moves left on grey",
    "a <b>large</b> blue square & nothing else",
    "a green triangle turns around and around while a long sentence goes on",
    "a yellow ring grows",
)
#: By candidate, the standard deviation of what each sample's frames are changed by.
NOISE = {"w8a8": (0.002, 0.004, 0.003, 0.0), "w4a8 edges": (0.02, 0.05, 0.03, 0.01)}


def sample_id(prompt: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{prompt}".encode()).hexdigest()[:12]


def recorded(**changes: Any) -> Recorded:
    """What is read of the run, where neither videos nor frames are; `changes` as of `write_run`."""
    return Recorded(Path("run"), {**results(_clips()), **changes})


def write_run(folder: Path, **changes: Any) -> Path:
    """Writes the folder; `changes` replace top-level parts of results.json."""
    frames = _clips()
    for name, clips in frames.items():
        for index, clip in enumerate(clips):
            sample = sample_id(PROMPTS[index], index)
            write_video(folder / "frames" / fingerprint(name) / f"{sample}.mkv", clip, "ffv1", "gbrp16le")
            write_video(folder / "videos" / name / f"{sample}.preview.mp4", clip, "libx264", "yuv420p", enlarge=8)
    body = {**results(frames), **changes}
    (folder / "results.json").write_text(json.dumps(body, allow_nan=False), encoding="utf-8")
    return folder


def fingerprint(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def psnr(original: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> float | None:
    """Of the values as stored in 16 bits; None where identical."""
    a, b = (np.rint(clip * 65535) / 65535 for clip in (original, candidate))
    error = float(np.square(a - b).mean())
    return None if error == 0 else -10 * float(np.log10(error))


def results(frames: dict[str, list[npt.NDArray[np.float64]]]) -> dict[str, Any]:
    """results.json, format 2."""
    samples = [
        {"id": sample_id(prompt, seed), "prompt": prompt, "seed": seed, "latents_sha256": fingerprint(prompt)}
        for seed, prompt in enumerate(PROMPTS)
    ]
    original = _model("original", "bf16", 12_270_000, [{"clip_frame": 0.99, "clip_prompt": 0.31}] * 4, samples)
    original["sets"] = {"fvd:i3d": {"to_original": None, "to_real": None, "mmd_to_original": None, "mmd_to_real": None}}
    candidates = [
        _candidate(name, frames[name], frames["original"], samples, stored)
        for name, stored in zip(NOISE, (7_130_000, 4_320_000), strict=True)
    ]
    return {
        "format_version": 2,
        "kind": "quant evaluation",
        "created": "2026-01-02T03:04:05+00:00",
        "key": fingerprint("key"),
        "conditions": {
            "model": "shapes <tiny>",
            "fingerprint": fingerprint("original"),
            "settings": {"height": SHAPE[1], "num_frames": SHAPE[0], "num_inference_steps": 4, "guidance_scale": 3.0},
            "dtype": "float32",
            "device": "cpu",
            "gpu": None,
            "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "quant-video": "0.1.0"},
        },
        "provenance": {"command": "quant eval run config.yaml --out runs", "machine": {"cpu": "made up"}, "fps": FPS},
        "networks": [
            {
                "metric": "fvd:i3d",
                "name": "i3d",
                "conventions": {
                    "resize": "squash to 224, bilinear",
                    "range": "-1..1",
                    "weights_sha256": fingerprint("i3d"),
                    "source": "https://example.org/i3d",
                },
            }
        ],
        "missing": [{"metric": "lpips_vgg", "why": "its network is not fetched"}],
        "samples": samples,
        "truncated_prompts": [samples[2]["id"]],
        "models": [original, *candidates],
        "speed": speed(),
    }


def speed() -> dict[str, Any]:
    """speed.json, format 1, with an estimate for a GPU."""

    def stat(median: float) -> dict[str, Any]:
        return {"median": median, "p90": median * 1.1, "cv": 0.03, "n": 5, "seconds": [median] * 5}

    def model(factor: float) -> dict[str, Any]:
        stages = {
            "text_encoder": 0.01,
            "input_encoder": 0.02,
            "step": 0.4 * factor,
            "vae": 0.05,
            "end_to_end": 1.7 * factor,
        }
        return {
            "first_call_s": 2.5,
            "compile_s": None,
            "stages": {name: stat(value) for name, value in stages.items()},
            "peak_memory_bytes": None,
            "kernels": [{"name": "aten::mm", "share": 0.6}, {"name": "aten::softmax", "share": 0.25}],
            "failed": None,
            "notes": [],
        }

    return {
        "format_version": 1,
        "device": {"name": "a CPU", "type": "cpu", "clocks": None, "power_w": None},
        "label": "reference arithmetic on a CPU: not a kernel's time",
        "attention": "native",
        "compiled": False,
        "rounds": 5,
        "settings": {"height": SHAPE[1]},
        "what": {"kernels": "share of the second step by operation"},
        "models": {"original": model(1.0), "w8a8": model(1.5), "w4a8 edges": model(1.6)},
        "estimated": {
            "gpu": "H100 SXM",
            "what": "roofline estimate of the transformer alone",
            "models": {
                "original": {"step_s": 0.9},
                "w8a8": {"step_s": 0.5},
                "w4a8 edges": {"step_s": 0.6},
            },
        },
    }


def _model(name: str, scheme: str, stored: int, scores: list[dict[str, Any]], samples: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": f"./{name}",
        "fingerprint": fingerprint(name),
        "scheme": scheme,
        "recipe": None,
        "calibration_prompts": None,
        "stored_bytes": stored,
        "bf16_bytes": 12_270_000,
        "scores": {sample["id"]: found for sample, found in zip(samples, scores, strict=True)},
        "per_frame_psnr": {},
        "summary": {key: _estimate([found[key] for found in scores]) for key in scores[0]},
        "sets": {},
        "verdicts": [],
        "step_error": None,
        "sensitivity": None,
    }


def _candidate(name: str, clips: Any, originals: Any, samples: Any, stored: int) -> dict[str, Any]:
    found = [psnr(a, b) for a, b in zip(originals, clips, strict=True)]
    scores = [
        {
            "psnr": value,
            "ssim": 1.0 if value is None else 1 - 10 ** (-value / 20),
            "lpips_alex": 0.0 if value is None else 10 ** (-value / 20) * 3,
            "clip_frame": 0.985,
            "clip_prompt": 0.305,
        }
        for value in found
    ]
    model = _model(name, name.split()[0].upper(), stored, scores, samples)
    model["summary"]["psnr"]["identical"] = found.count(None)
    model["sets"] = {
        "fvd:i3d": {
            "to_original": {
                "value": 12.345,
                "low": 10.0,
                "high": 14.0,
                "n": 4,
                "dimension": 400,
                "enough": False,
                "extrapolated": None,
                "warning": "",
            },
            "to_real": None,
            "mmd_to_original": -0.0123,
            "mmd_to_real": None,
        }
    }
    small = name == "w8a8"
    model["verdicts"] = [
        {"metric": metric, "level": level, "verdict": verdict, "loss": _estimate([0.002, 0.003])}
        for metric in ("psnr", "ssim", "lpips_alex")
        for level, verdict in ((0.01, "pass" if small else "fail"), (0.001, "not enough samples" if small else "fail"))
    ]
    factor = 0.1 if small else 1.0
    model["step_error"] = {
        "steps": [1, 2, 3, 4],
        "error": [0.001 * factor, 0.004 * factor, 0.01 * factor, 0.03 * factor],
        "estimated": "from 64 entries of each latent",
    }
    if not small:
        model["sensitivity"] = sensitivity()
    return model


def sensitivity() -> Any:
    units = tuple(
        quant.SensitivityUnit(
            "transformer", f"blocks.{block}.attn1.{part}", (part,), "W4A8", 0.001 * (block + 1), (0.001, 0.002), 10, 40
        )
        for block in range(3)
        for part in ("to_q", "to_k")
    )
    return json.loads(quant.Sensitivity("w4a8", "0" * 64, "made/up", ("a",), (0, 3), (999.0, 3.0), units).to_json())


def _estimate(values: list[float | None]) -> dict[str, Any]:
    finite = [value for value in values if value is not None]
    value = sum(finite) / len(finite)
    return {"value": value, "low": min(finite), "high": max(finite), "n": len(finite)}


def _clips() -> dict[str, list[npt.NDArray[np.float64]]]:
    return {name: [_frames(index, name) for index in range(len(PROMPTS))] for name in ("original", *NOISE)}


def _frames(index: int, name: str) -> npt.NDArray[np.float64]:
    """A bright disc that moves on a gradient, changed by noise where the model is a candidate."""
    count, height, width = SHAPE
    f, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    disc = (np.square(x - 6 - 3 * f) + np.square(y - 8 - 2 * index) < 30)[..., None]
    ground = np.stack([x / width, y / height, np.full(SHAPE, 0.2 * index)], axis=-1) * 0.5 + 0.1
    clip = np.where(disc, np.array([0.9, 0.3, 0.2]), ground)
    noise = NOISE.get(name, (0.0,) * 4)[index]
    drawn = np.random.default_rng(index).standard_normal(clip.shape)
    return np.asarray(np.clip(clip + noise * drawn, 0, 1))


def write_video(path: Path, clip: npt.NDArray[np.float64], codec: str, pixels: str, enlarge: int = 1) -> None:
    """Frames [F, H, W, 3] in 0..1 as a file; in 16 bits where `pixels` are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deep = "16" in pixels
    stored = np.rint(clip * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    stored = stored.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = stored.shape[1], stored.shape[2], pixels
        for picture in stored:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if deep else "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
