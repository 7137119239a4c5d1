"""Several processes that calibrate together: what one finds alone, and one line where one of them ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from quant.algorithms.base import Statistics
from quant.calibration import solving
from quant.calibration.block_solving import solve_by_block
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import layer_plan, planned
from quant.calibration.probe import max_calibrator
from quant.calibration.ranks import TIMEOUT, Ranks, owners
from quant.errors import CalibrationError
from tests.calibration.test_block_solving import WAN, recipe_of, recorded_of
from tests.tiny_calls import tiny_calls
from tests.tiny_models import ModelMaker

Found = dict[str, Any]

#: Where a process can be killed: before and after each of these.
POINTS = [(Ranks, "all_of"), (Ranks, "at"), (Ranks, "sum_at"), (KeptSolutions, "store")]


def _child(
    environment: Mapping[str, str], work: Callable[[], Found], path: Path, dies_at: int | None
) -> None:  # pragma: no cover
    """Works in a process of its own, which kills itself at a point, and stores what it found."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    passed = 0

    def pointed(method: Callable[..., Any], *args: Any) -> Any:
        nonlocal passed
        for i in range(2):
            passed += 1
            if passed == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if i == 0:
                found = method(*args)
        return found

    for owner, name in POINTS:
        method = getattr(owner, name)
        setattr(owner, name, lambda *args, method=method: pointed(method, *args))
    try:
        found = work()
    except CalibrationError as error:
        found = {"error": str(error)}
    torch.save({**found, "points": passed}, path)


def together(
    count: int, work: Callable[[], Found], folder: Path, dies: Mapping[int, int] | None = None
) -> list[Found | None]:
    """What each of some processes found, None of one that was killed.

    They are forked from this one, which has imported torch and ModelOpt: that takes a process seconds.

    Args:
        dies: the point at which a process is killed, by its number.
    """
    max_calibrator()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    fork = multiprocessing.get_context("fork")
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, TIMEOUT: "60"}
    paths = [folder / f"{i}.pt" for i in range(count)]
    processes = []
    for i, path in enumerate(paths):
        path.unlink(missing_ok=True)
        environment = {**common, "RANK": str(i), "LOCAL_RANK": str(i)}
        processes.append(fork.Process(target=_child, args=(environment, work, path, (dies or {}).get(i))))
        processes[-1].start()
    try:
        for each in processes:
            each.join(120)
            assert not each.is_alive()
    finally:
        for each in processes:
            each.kill()
    return [torch.load(path, weights_only=False) if path.exists() else None for path in paths]


def calibrated(make_model: ModelMaker, folder: Path, ranks: Callable[[], Ranks], **calibration: Any) -> Found:
    """Solves a tiny Wan; what this process solved from, and all weights."""
    model, meta, recipe = make_model(WAN, device="cpu"), make_model(WAN), recipe_of(**calibration)
    plans, seen = {"transformer": layer_plan(model, recipe)}, dict[str, Statistics]()
    solve_group = solving._solve_group

    def watched(models: Any, members: Any, statistics: Statistics | None) -> Any:
        if statistics is not None:
            seen[members[0][1].name] = statistics
        return solve_group(models, members, statistics)

    recorded = {"transformer": recorded_of(model, tiny_calls(WAN, 4))}
    with pytest.MonkeyPatch.context() as patch, ranks().joined():
        patch.setattr(solving, "_solve_group", watched)
        kept = KeptSolutions(folder, "key")
        found = solve_by_block({"transformer": meta}, plans, recipe, recorded, kept, ranks=ranks())["transformer"]
    weights = {}
    for layer in planned(plans["transformer"]):
        original = layer.layer_kind.matrix(layer.layer_kind.weight(model.get_submodule(layer.name)).detach())
        weights[layer.name] = found[layer.name].rounded(original, layer.group).weight
    return {"seen": seen, "weights": weights}


def check_statistics(found: Mapping[str, Statistics], alone: Mapping[str, Statistics]) -> None:
    """Asserts equal ranges, and Hessians within float error."""
    for name, statistics in found.items():
        expected = alone[name]
        assert statistics.seen_rows == expected.seen_rows, name
        for field in ("amax", "channel_amax"):
            one, two = getattr(statistics, field), getattr(expected, field)
            assert (one is None and two is None) or torch.equal(one, two), (name, field)
        assert (statistics.hessian is None) == (expected.hessian is None)
        if expected.hessian is not None:
            torch.testing.assert_close(statistics.hessian, expected.hessian, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("count", "inputs"), [(2, "compressed"), (3, "original")])
def test_they_find_what_one_finds_alone(make_model: ModelMaker, tmp_path: Path, count: int, inputs: str) -> None:
    alone = calibrated(make_model, tmp_path / "alone", Ranks, inputs=inputs)
    work = partial(calibrated, make_model, tmp_path / "kept", Ranks.of_environment, inputs=inputs)
    found = [each or {} for each in together(count, work, tmp_path)]
    assert [each.get("error") for each in found] == [None] * count
    seen = {name: statistics for each in found for name, statistics in each["seen"].items()}
    assert seen.keys() == alone["seen"].keys()
    assert len(seen) == sum(len(each["seen"]) for each in found)  # each is solved once
    assert all(each["seen"] for each in found)  # and each process solves some
    if inputs == "compressed":  # behind a block that is rounded, ties and samples of rows make a difference
        seen = {name: statistics for name, statistics in seen.items() if name.startswith("blocks.0.")}
    check_statistics(seen, alone["seen"])
    for name, weight in alone["weights"].items():
        assert all(torch.equal(each["weights"][name], found[0]["weights"][name]) for each in found), name
        if inputs == "original" and ".ffn." in name:  # solved from sums alone, not from a sample of rows
            assert ((found[0]["weights"][name] - weight).abs() > 1e-5).float().mean() < 0.01, name


def test_where_one_is_killed_the_others_say_so_and_the_next_run_goes_on(make_model: ModelMaker, tmp_path: Path) -> None:
    def work(folder: str) -> Callable[[], Found]:
        return partial(calibrated, make_model, tmp_path / folder, Ranks.of_environment)

    whole = [each or {} for each in together(2, work("whole"), tmp_path)]
    solved, moments = sum(len(each["seen"]) for each in whole), random.Random(0)
    for turn in range(int(os.environ.get("QUANT_TEST_KILLS", "1"))):
        folder, victim = f"kept-{turn}", moments.randrange(2)
        point = moments.randrange(1, whole[victim]["points"] + 1)
        found = together(2, work(folder), tmp_path, {victim: point})
        assert found[victim] is None
        error = (found[1 - victim] or {}).get("error")
        if point < whole[victim]["points"]:  # else the other has everything by then
            assert error is not None and "\n" not in error
            assert "another process of this run has ended, or has not answered" in error
        kept = [path for path in (tmp_path / folder).glob("0*.safetensors") if load_file(path)]
        again = [each or {} for each in together(2, work(folder), tmp_path)]
        assert [each.get("error") for each in again] == [None, None]
        assert sum(len(each["seen"]) for each in again) == solved - len(kept)
        for name, weight in whole[0]["weights"].items():
            assert all(torch.equal(each["weights"][name], weight) for each in again), name


def test_a_group_of_the_caller_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    with pytest.raises(CalibrationError, match="rank 0 of 2: this process has a process group already"):
        Ranks(0, 2).joined().__enter__()


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
