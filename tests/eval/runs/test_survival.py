"""Runs that are killed at random moments end with the results of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import yaml

from tests.eval.runs.conftest import tiny

KILLS = 20
#: A process with everything imported, which makes a child for each run: importing takes longer than the runs.
WARM = """
import os, signal, sys, time, traceback
from pathlib import Path
import torch, diffusers, transformers, av, jsonschema
from diffusers import WanPipeline
import quant.diffusers
from quant.eval.inputs.parsing import read_config
from quant.eval.runs.running import run_evaluation
import quant.eval.runs.networks, quant.eval.videos.video_files, quant.eval.shapes.judge
from quant.eval.metrics import frechet, intervals, kernel_distance, ssim, temporal, verdicts
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    config, out, limit = line.split()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run_evaluation(read_config(Path(config)), Path(out))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    end = time.monotonic() + float(limit)
    while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.002)
    if not done[0]:
        os.kill(child, signal.SIGKILL)
        done = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(done[1]), flush=True)
"""


def results(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*/results.json")
    body: dict[str, Any] = json.loads(path.read_text())
    del body["created"]
    return body


def test_twenty_kills(models: Path, tmp_path: Path) -> None:
    prompts = ["a red fox", "a blue bird", "snow", "a fox", "a bird", "red", "blue snow", "a red bird"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny(models, prompts=prompts).to_dict()))
    draw = random.Random(0)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", WARM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        ) as warm,
    ):
        assert warm.stdin is not None and warm.stdout is not None
        assert warm.stdout.readline() == "ready\n", (tmp_path / "log").read_text()
        begin = time.monotonic()
        assert run(warm.stdin, warm.stdout, config, tmp_path / "whole", 1e9) == 0, (tmp_path / "log").read_text()
        whole = time.monotonic() - begin
        kills, runs = 0, 0
        while kills < KILLS:
            out, status = tmp_path / f"killed-{runs}", -1
            while status != 0:
                limit = draw.uniform(0, whole) if kills < KILLS else 1e9
                status = run(warm.stdin, warm.stdout, config, out, limit)
                assert status in (0, -signal.SIGKILL), (tmp_path / "log").read_text()
                kills += status != 0
            assert results(out) == results(tmp_path / "whole")
            assert not list(out.rglob("*.part"))
            runs += 1
        warm.stdin.close()


def run(to: IO[str], back: IO[str], config: Path, out: Path, limit: float) -> int:
    """The exit status of one run, killed after `limit` seconds if it takes that long."""
    to.write(f"{config} {out} {limit}\n")
    to.flush()
    return int(back.readline())
