"""What evaluations, calibrations and tuning leave on disk and read again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

import quant
from quant.calibration.calls import CallsWriter, Place, open_calls
from quant.checkpoint.kept_files import keep, kept
from quant.eval.drawing.pareto import pareto
from quant.eval.inputs.parsing import from_dict, read_config
from quant.eval.inputs.samples import Sample
from quant.eval.report.headline import headline
from quant.eval.report.score_table import score_table
from quant.eval.report.speed_table import speed_table
from quant.eval.results.recorded import read as read_recorded
from quant.eval.results.summary import notes, summary
from quant.eval.runs.requests import Request, read_request
from quant.eval.storage import journal
from tests.eval.report import small_run
from tests.fuzz.target import Target

_CONFIG = """\
model: ../model
candidates: {int8: ../int8, fp8: ../fp8}
prompts: [a red circle, "a blue: square"]
seeds: [0, 1]
settings: {height: 32, width: 32, num_frames: 5, num_inference_steps: 4, guidance_scale: 3.0}
dtype: bfloat16
speed: false
metrics: {lpips: [], fvd: []}
"""


def _make_config(folder: Path) -> None:
    (folder / "eval.yaml").write_text(_CONFIG, encoding="utf-8")


def _read_config(folder: Path) -> Any:
    return read_config(folder / "eval.yaml").to_dict()


def _make_request(folder: Path) -> None:
    import yaml

    config = from_dict(yaml.safe_load(_CONFIG), source="eval.yaml", base=folder)
    samples = (Sample("a red circle", 0), Sample("a blue: square", 1))
    prints = {"original": "0" * 32, "int8": "1" * 32}
    conditions = {"model": "model", "fingerprint": "0" * 32, "settings": {"num_frames": 5}, "dtype": "bfloat16"}
    conditions |= {"device": "cpu", "versions": {"torch": "2.13"}}
    request = Request(config, samples, conditions, {"command": "quant eval run"}, prints, _CONFIG)
    (folder / "config.json").write_text(json.dumps(request.to_dict(), indent=1), encoding="utf-8")


def _read_request(folder: Path) -> Any:
    return json.loads(json.dumps(read_request(folder).to_dict()))


def _make_results(folder: Path) -> None:
    small_run.write_run(folder)


def _read_results(folder: Path) -> Any:
    """Reads the results, and makes of them what a terminal and a page show."""
    recorded = read_recorded(folder)
    pieces = (headline, pareto, score_table, speed_table)
    shown = [str(summary(recorded.body)), *notes(recorded.body), *(str(piece(recorded)) for piece in pieces)]
    return {"body": dict(recorded.body), "shown": shown}


def _make_journal(folder: Path) -> None:
    for record in _records():
        journal.append(folder / "scores-0.jsonl", record)


def _read_journal(folder: Path) -> Any:
    return list(journal.read(folder, "scores"))


def _made_up_records(folder: Path, found: Any) -> str | None:
    """Lines may be lost, as by a kill, and their work is done again; none may say something else."""
    good = _records()
    return next((f"made up: {record}" for record in found if record not in good), None)


def _records() -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {"fingerprint": f"{i % 3:032}", "sample": f"{i}", "psnr": rng.uniform(20, 50), "words": ["é", None]}
        for i in range(20)
    ]


def _make_kept(folder: Path) -> None:
    torch.manual_seed(0)
    tensors = {"amax": torch.rand(64), "rows": torch.randn(16, 64), "seen": torch.tensor(7)}
    keep(folder / "journal.safetensors", tensors, {"key": "mine", "part": "0", "done": "3"})


def _read_kept(folder: Path) -> Any:
    found = kept(folder / "journal.safetensors", key="mine", part="0")
    if found is None:
        raise quant.QuantError("counts as absent")
    return found


def _make_recording(folder: Path) -> None:
    place = Place("transformer", 0, 3, 1, 875.0)
    writer = CallsWriter(folder, "mine")
    text = torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(0))  # large enough for a file of its own
    writer.write(place, (torch.arange(6),), {"text": [text, None], "scale": 0.5, "shape": torch.Size([2, 3])})
    writer.finish({"seed": 0}, {"transformer": [place]})


def _read_recording(folder: Path) -> Any:
    found = open_calls(folder)
    calls = {name: [found.load(place) for place in found.places(name)] for name in found.components}
    return {"about": dict(found.about), "places": repr(found.listed), "calls": calls}


def _make_sensitivity(folder: Path) -> None:
    (folder / "s.json").write_text(json.dumps(small_run.sensitivity()), encoding="utf-8")


def _read_sensitivity(folder: Path) -> Any:
    try:
        return quant.Sensitivity.from_json((folder / "s.json").read_text(encoding="utf-8")).to_json()
    except ValueError as error:  # what it says it raises; its callers name the file
        raise quant.QuantError(" ".join(str(error).split()) or "damaged") from error


RUNS = (
    Target("evaluation's config", _make_config, _read_config),
    Target("evaluation's request", _make_request, _read_request),
    Target("results", _make_results, _read_results, mutated=("results.json",)),
    Target("evaluation's journal", _make_journal, _read_journal, wrong=_made_up_records),
    Target("calibration's journal", _make_kept, _read_kept, hashed=True),
    Target("recorded calls", _make_recording, _read_recording, hashed=True),
    Target("sensitivity", _make_sensitivity, _read_sensitivity, share=0.5),
)
