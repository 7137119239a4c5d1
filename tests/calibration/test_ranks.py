"""Several processes that calibrate together: what one finds alone, and one line where one of them ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from quant.algorithms.base import Statistics
from quant.calibration import solving
from quant.calibration.block_solving import solve_by_block
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import layer_plan, planned
from quant.calibration.ranks import TIMEOUT, Ranks, owners
from quant.errors import CalibrationError
from tests.calibration.test_block_solving import WAN, recipe_of, recorded_of
from tests.tiny_calls import tiny_calls
from tests.tiny_models import ModelMaker

Found = dict[str, Any]


def _child(environment: Mapping[str, str], work: Callable[[], Found], path: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        found = work()
    except CalibrationError as error:
        found = {"error": str(error)}
    torch.save(found, path)


def started(count: int, work: Callable[[], Found], folder: Path, seconds: int = 30) -> list[Any]:
    """Processes under way, forked from this one as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    fork = multiprocessing.get_context("fork")
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, TIMEOUT: str(seconds)}
    processes = [
        fork.Process(
            target=_child, args=({**common, "RANK": str(i), "LOCAL_RANK": str(i)}, work, folder / f"{count}.{i}.pt")
        )
        for i in range(count)
    ]
    for each in processes:
        each.start()
    return processes


def found_by(processes: list[Any], folder: Path) -> list[Found | None]:
    """What each process found, when all have ended; None of one that was killed."""
    for each in processes:
        each.join(90)
        assert not each.is_alive()
    paths = [folder / f"{len(processes)}.{i}.pt" for i in range(len(processes))]
    return [torch.load(path, weights_only=False) if path.exists() else None for path in paths]


def work_of(make_model: ModelMaker, folder: Path, name: str, **calibration: Any) -> Callable[[], Found]:
    """Solves a tiny Wan; returns what this process solved from, and all weights."""
    model, meta, recipe = make_model(WAN, device="cpu"), make_model(WAN), recipe_of(**calibration)
    plans = {"transformer": layer_plan(model, recipe)}

    def work() -> Found:
        ranks, seen = Ranks.of_environment(), dict[str, Statistics]()
        solve_group = solving._solve_group

        def watched(models: Any, members: Any, statistics: Statistics | None) -> Any:
            if statistics is not None:
                seen[members[0][1].name] = statistics
            return solve_group(models, members, statistics)

        solving._solve_group = watched
        recorded = {"transformer": recorded_of(model, tiny_calls(WAN, 4))}
        kept = KeptSolutions(folder / name, "key")
        with ranks.joined():
            found = solve_by_block({"transformer": meta}, plans, recipe, recorded, kept, ranks=ranks)["transformer"]
        weights = {}
        for layer in planned(plans["transformer"]):
            original = layer.layer_kind.matrix(layer.layer_kind.weight(model.get_submodule(layer.name)).detach())
            weights[layer.name] = found[layer.name].rounded(original, layer.group).weight
        return {"seen": seen, "weights": weights}

    return work


@pytest.mark.parametrize("inputs", ["original", "compressed"])
def test_they_find_what_one_finds_alone(make_model: ModelMaker, tmp_path: Path, inputs: str) -> None:
    alone = None
    for count in (1, 2, 3) if inputs == "original" else (1, 2):
        work = work_of(make_model, tmp_path, str(count), inputs=inputs)
        found = found_by(started(count, work, tmp_path), tmp_path)
        for each in found:
            assert each is not None and "error" not in each, each
        seen = [each["seen"] for each in found if each is not None]
        together = {name: statistics for each in seen for name, statistics in each.items()}
        assert len(together) == sum(map(len, seen)) and all(seen)  # each once, and each process some
        if alone is None:
            alone = together, found[0]["weights"]  # type: ignore[index]
            continue
        assert together.keys() == alone[0].keys()
        for name, statistics in together.items():
            expected = alone[0][name]
            assert statistics.seen_rows == expected.seen_rows
            if inputs == "compressed" and not name.startswith("blocks.0."):
                continue  # behind a block that is rounded, ties and samples make a difference
            for field in ("amax", "channel_amax"):
                one, two = getattr(statistics, field), getattr(expected, field)
                assert (one is None and two is None) or torch.equal(one, two), (name, field)
            if expected.hessian is not None:
                torch.testing.assert_close(statistics.hessian, expected.hessian, rtol=1e-6, atol=1e-9)
        for each in found:
            assert each is not None
            for name, weight in each["weights"].items():
                assert torch.equal(weight, found[0]["weights"][name])  # type: ignore[index]
                if inputs == "original":
                    differ = (weight - alone[1][name]).abs() > 1e-5
                    assert differ.float().mean() < 0.01, name


def test_where_one_is_killed_the_others_say_so_and_the_next_run_goes_on(make_model: ModelMaker, tmp_path: Path) -> None:
    work = work_of(make_model, tmp_path, "kept")
    moments, struck = random.Random(0), 0
    for _ in range(int(os.environ.get("QUANT_TEST_KILLS", "2"))):
        for path in tmp_path.glob("2.*.pt"):
            path.unlink()
        processes = started(2, work, tmp_path, seconds=20)
        victim = moments.randrange(2)
        time.sleep(moments.uniform(0.05, 1.0))
        os.kill(processes[victim].pid, signal.SIGKILL)
        found = found_by(processes, tmp_path)
        other = found[1 - victim]
        if other is not None and "error" in other:
            struck += 1
            assert "another process of this run has ended, or has not answered" in other["error"]
        assert not list((tmp_path / "kept").glob("*.pt"))
    (whole,) = found_by(started(1, work_of(make_model, tmp_path, "whole"), tmp_path), tmp_path)
    again = found_by(started(2, work, tmp_path), tmp_path)
    for each in again:
        assert each is not None and whole is not None and each["weights"].keys() == whole["weights"].keys()
    assert struck


ALL = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WORLD_SIZE", "two", "WORLD_SIZE: must be a whole number from 1"),
        ("RANK", "2", "RANK: must be a whole number from 0 to 1, got '2'"),
        ("LOCAL_RANK", None, "LOCAL_RANK: not set, and WORLD_SIZE is; start all processes with torchrun"),
        ("MASTER_ADDR", None, "MASTER_ADDR: not set"),
        ("MASTER_PORT", "70000", "MASTER_PORT: must be"),
        (TIMEOUT, "-1", f"{TIMEOUT}: must be"),
    ],
)
def test_variables_that_are_wrong_are_named(name: str, value: str | None, message: str) -> None:
    given = {key: text for key, text in {**ALL, name: value}.items() if text is not None}
    with pytest.raises(CalibrationError, match=message):
        Ranks.of_environment(given)


def test_one_process_is_the_trivial_case() -> None:
    assert Ranks.of_environment({}) == Ranks.of_environment({"WORLD_SIZE": "1"}) == Ranks()
    assert list(Ranks().mine([1, 2, 3])) == [1, 2, 3] and Ranks(1, 2).mine([1, 2, 3]) == [2]


def test_the_dearest_goes_to_who_has_least() -> None:
    assert owners([1, 8, 3, 3], 2) == [1, 0, 1, 1]
    assert owners([5], 3) == [0]
