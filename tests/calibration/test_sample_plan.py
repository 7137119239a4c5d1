"""Recorded steps are spread over schedule and inputs, far apart, and the same whenever they are asked for."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.calibration.sample_plan import Parts, sample_plan


def steps_of(plan: dict[int, dict[str, Parts]], component: str, length: int) -> dict[int, list[int]]:
    return {row: parts[component].steps(length) for row, parts in plan.items() if component in parts}


@settings(max_examples=60)
@given(length=st.integers(1, 60), rows=st.integers(1, 40), count=st.integers(1, 80), seed=st.integers(0, 5))
def test_properties(length: int, rows: int, count: int, seed: int) -> None:
    plan = sample_plan({"transformer": length}, rows, count, seed)
    assert plan == sample_plan({"transformer": length}, rows, count, seed)
    assert list(plan) == sorted(plan) and set(plan) <= set(range(rows))
    found = steps_of(plan, "transformer", length)
    made = Counter(step for steps in found.values() for step in steps)
    wanted = min(count, rows * length)
    assert made.total() == wanted  # none is lost, for no step of an input is taken twice
    assert set(made) <= set(range(length))
    # Evenly: every part of the schedule has its share, and so has every input that is run.
    assert {made[step] for step in range(length)} <= {wanted // length, -(-wanted // length)}
    sizes = {len(steps) for steps in found.values()}
    assert max(sizes) - min(sizes) <= 1
    if -(-count // max(1, min(4, length // 4))) <= rows:  # inputs enough
        assert all(b - a >= 4 for steps in found.values() for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize(("length", "inputs", "of_one"), [(50, 8, 4), (20, 8, 4), (13, 11, 3), (8, 16, 2), (4, 32, 1)])
def test_how_many_inputs_are_run(length: int, inputs: int, of_one: int) -> None:
    plan = sample_plan({"unet": length}, 32, 32, 0)
    assert len(plan) == inputs
    assert max(map(len, steps_of(plan, "unet", length).values())) == of_one


def test_experts_share_inputs_and_have_samples_of_their_own() -> None:
    plan = sample_plan({"transformer": 13, "transformer_2": 27, "unet": 0}, 32, 32, 3)
    assert sum(len(steps) for steps in steps_of(plan, "transformer", 13).values()) == 32
    assert sum(len(steps) for steps in steps_of(plan, "transformer_2", 27).values()) == 32
    assert [len(parts) for parts in plan.values()].count(2) == 8 and len(plan) == 11


def test_an_input_with_another_schedule_has_the_same_parts_of_it() -> None:
    parts = Parts((1, 9, 17, 25), 32)
    assert parts.steps(64) == [3, 19, 35, 51]
    assert parts.steps(4) == [0, 1, 2, 3]
    assert parts.steps(2) == [0, 1]
    assert parts.steps(0) == []


def test_a_seed_takes_other_inputs() -> None:
    assert len({tuple(sample_plan({"unet": 50}, 1000, 32, seed)) for seed in range(5)}) == 5
