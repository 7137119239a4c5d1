from __future__ import annotations

import re
from typing import Any

from quant.eval.report.provenance import measured_and_estimated, networks, provenance, truncated_prompts
from tests.eval.report.pages import rows, words
from tests.eval.report.small_run import PROMPTS, fingerprint, recorded, sample_id, speed


def listed(html: str) -> dict[str, list[str]]:
    """By title of a list, its lines."""
    parts = re.findall("<h3>(.*?)</h3><ul>(.*?)</ul>", html)
    return {title: [words(line) for line in re.findall("<li>(.*?)</li>", lines)] for title, lines in parts}


def test_what_was_measured_estimated_and_not_taken() -> None:
    assert listed(measured_and_estimated(recorded()).html) == {
        "Measured": [
            "PSNR, SSIM, LPIPS (AlexNet), CLIP frame consistency, CLIP prompt consistency: of each of 4 samples, on "
            "stored 16-bit frames",
            "FVD (i3d): of the features of all videos together",
            "Stored bytes: of all tensors of the quantized components, scales included",
            "Times: reference arithmetic on a CPU: not a kernel's time, on a CPU",
        ],
        "Estimated": [
            "95% intervals: by resampling the samples",
            "Time of a step on H100 SXM: roofline estimate of the transformer alone",
            "Difference of latents by step: from 64 entries of each latent",
        ],
        "Not taken": ["lpips_vgg: its network is not fetched"],
    }


def test_what_the_run_did_not_do_is_claimed_nowhere() -> None:
    found = recorded(speed=None, missing=[{"metric": "<clip>", "why": "no <network>"}])
    for model in found.models:
        model |= {"sets": {}, "step_error": None}  # type: ignore[operator]
    html = measured_and_estimated(found).html
    assert listed(html)["Estimated"] == ["95% intervals: by resampling the samples"]
    assert listed(html)["Not taken"] == ["<clip>: no <network>", "Times: nothing was timed"]
    assert [line.split(":")[0] for line in listed(html)["Measured"]][1:] == ["Stored bytes"]
    assert "&lt;clip&gt;: no &lt;network&gt;" in html


def test_a_gpu_is_named_once_and_an_extrapolation_is_an_estimate() -> None:
    label = "measured on NVIDIA H200"
    timed = speed() | {"device": {"name": "NVIDIA H200", "type": "cuda"}, "label": label}
    found = recorded(speed=timed)
    found.models[1]["sets"]["fvd:i3d"]["to_original"]["extrapolated"] = 11.0
    told = listed(measured_and_estimated(found).html)
    assert told["Measured"][-1] == f"Times: {label}"
    assert told["Estimated"][-1] == "Set distances of infinitely many samples: extrapolated in 1/N"


def test_networks_with_the_conventions_their_figures_depend_on() -> None:
    html = networks(recorded()).html
    assert rows(html, "Metric networks")[1] == [
        "fvd:i3d",
        "i3d",
        f"resize: squash to 224, bilinear range: -1..1 weights sha256: {fingerprint('i3d')} source: https://example.org/i3d",
    ]
    assert f"<code>{fingerprint('i3d')}</code>" in html
    assert words(networks(recorded(networks=[])).html) == "No metric of this run needs a network."
    named = [{"metric": "<m>", "name": "<n>", "conventions": {"<k>": "<v>"}}]
    assert not re.findall("<[mnkv]>", networks(recorded(networks=named)).html)


def test_prompts_that_were_cut_off_are_listed() -> None:
    html = truncated_prompts(recorded()).html
    assert words(html).startswith("1 prompt was longer than CLIP reads;")
    assert f"Show it {PROMPTS[2]}" in words(html)
    two = [sample_id(PROMPTS[place], place) for place in (1, 2)]
    html = truncated_prompts(recorded(truncated_prompts=two)).html
    assert words(html).startswith("2 prompts were longer")
    assert f"Show them {PROMPTS[1]} {PROMPTS[2]}" in words(html)
    assert "&lt;b&gt;large&lt;/b&gt; blue square &amp; nothing else" in html
    assert words(truncated_prompts(recorded(truncated_prompts=[])).html) == "No prompt was cut off by a tokenizer."


def test_all_that_a_run_needs_to_be_made_again() -> None:
    html = provenance(recorded()).html
    terms = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    assert {term: words(text) for term, text in terms.items()} == {
        "command": "quant eval run config.yaml --out runs",
        "made": "2026-01-02T03:04:05+00:00",
        "original": f"shapes <tiny>, fingerprint {fingerprint('original')}",
        "settings": "height 24 num_frames 6 num_inference_steps 4 guidance_scale 3.0",
        "computed in": "float32 on cpu",
        "versions": "python 3.11.7 torch 2.13.0+cpu quant-video 0.1.0",
        "machine": "cpu made up",
        "frames a second": "8",
        "seeds": "0, 1, 2, 3",
        "key of the run": fingerprint("key"),
        "results": "results.json, format 2",
    }
    assert "shapes &lt;tiny&gt;" in html
    samples = rows(html, "Samples")
    assert samples[0] == ["prompt", "seed", "id", "initial latents, SHA-256"]
    assert samples[2] == [PROMPTS[1], "1", sample_id(PROMPTS[1], 1), fingerprint(PROMPTS[1])[:12]]
    assert "All 4 samples with seeds and hashes" in html


def test_models_say_what_they_were_made_with() -> None:
    found = recorded()
    models: Any = found.models
    models[1] |= {"recipe": "general/<w8a8>", "calibration_prompts": 1}
    models[2] |= {"scheme": "", "calibration_prompts": 8}
    html = provenance(found).html
    assert rows(html, "Models") == [
        ["model", "source", "scheme", "recipe", "calibrated on", "fingerprint"],
        ["original", "./original", "bf16", "–", "–", fingerprint("original")[:12]],
        ["w8a8", "./w8a8", "W8A8", "general/<w8a8>", "1 prompt", fingerprint("w8a8")[:12]],
        ["w4a8 edges", "./w4a8 edges", "–", "–", "8 prompts", fingerprint("w4a8 edges")[:12]],
    ]
    assert "general/&lt;w8a8&gt;" in html


def test_the_gpu_that_videos_were_made_on_is_named() -> None:
    conditions: dict[str, Any] = recorded().body["conditions"]
    found = recorded(conditions=conditions | {"device": "cuda", "gpu": "NVIDIA H200", "dtype": "bfloat16"})
    assert "computed in bfloat16 on cuda NVIDIA H200" in words(provenance(found).html)
