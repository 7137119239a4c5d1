"""The campaign in short: `make fuzz` runs ten times as many mutations."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import shares
from tests.fuzz.mutations import mutate_safetensors, mutation_for
from tests.fuzz.runner import GOOD, campaign, seeded
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

COUNTS = shares(TARGETS, 2_000)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_mutation_hangs_ends_in_a_traceback_or_passes_a_hash(target: Target) -> None:
    outcomes = list(campaign(target, seeded(target, seed=1), range(COUNTS[target.name])))
    assert len(outcomes) == COUNTS[target.name]
    assert [outcome for outcome in outcomes if outcome.kind not in GOOD] == []


def test_a_mutation_is_made_again_by_its_number() -> None:
    data = b'\x10\0\0\0\0\0\0\0{"a":{"b":[1,2]}}payload'
    for name in ("a.json", "a.jsonl", "a.yaml", "a.safetensors", "a.csv"):
        good = data if name == "a.safetensors" else b'{"a": {"b": [1, 2]}}'
        made = [mutation_for(name)(good, random.Random(f"1 {i}")) for i in range(200)]
        assert made == [mutation_for(name)(good, random.Random(f"1 {i}")) for i in range(200)]
        assert sum(changed != good for _, changed in made) > 150
    assert mutate_safetensors(data, random.Random(3))[1] != data
