"""Every hostile file is refused in one line, in seconds and in little memory; nothing outside its folder is touched."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.attacks.attack import CANARY, PICKLE, YAML_CODE, YAML_OBJECT, Attack, Place
from tests.attacks.checkpoints import CHECKPOINTS
from tests.attacks.recipes import PROMPTS, RECIPES
from tests.attacks.recordings import RECORDINGS
from tests.fuzz.runner import campaign
from tests.fuzz.targets import TARGETS

ATTACKS: tuple[Attack, ...] = (*RECIPES, *PROMPTS, *CHECKPOINTS, *RECORDINGS)


@pytest.mark.parametrize("target", dict.fromkeys(attack.target for attack in ATTACKS))
def test_every_attack_is_refused(target: str) -> None:
    attacks = [attack for attack in ATTACKS if attack.target == target]

    def change(number: int, pristine: Mapping[Path, bytes]) -> tuple[Path, str, bytes | Place]:
        attack = attacks[number]
        found = [path for path in pristine if path.as_posix().endswith(f"/{attack.file}")]
        assert len(found) == 1, attack.file
        return found[0], attack.what, attack.make(pristine[found[0]])

    known = next(one for one in TARGETS if one.name == target)
    outcomes = list(campaign(known, change, range(len(attacks))))
    assert len(outcomes) == len(attacks)
    failed = [
        outcome
        for outcome, attack in zip(outcomes, attacks, strict=True)
        if outcome.kind not in (("refused", "same", "other") if attack.harmless else ("refused",))
    ]
    assert failed == []
    assert not CANARY.exists()


@pytest.mark.parametrize("code", [PICKLE, YAML_CODE.encode(), YAML_OBJECT.encode()], ids=["pickle", "apply", "object"])
def test_code_would_be_seen_to_run(code: bytes) -> None:
    try:
        found = pickle.loads(code) if code is PICKLE else yaml.unsafe_load(code)
        if isinstance(found, subprocess.Popen):
            found.wait()
        assert CANARY.exists()
    finally:
        CANARY.unlink(missing_ok=True)


def test_each_says_what_it_attacks_once() -> None:
    lines = [(attack.target, attack.what) for attack in ATTACKS]
    assert len(set(lines)) == len(lines)
    assert all(": " in what and "\n" not in what for _, what in lines)
