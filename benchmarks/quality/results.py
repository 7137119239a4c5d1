"""The results file: of each example its conditions once, and one entry a candidate, written as each is measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality.candidates import Candidate
from benchmarks.quality.conditions import Conditions

RESULTS = Path(__file__).parent.parent / "results" / "quality.json"
FORMAT_VERSION = 2
_lock = threading.Lock()


def read(example: str, path: Path = RESULTS) -> dict[str, Any]:
    """What the file has of an example; empty where that is nothing."""
    found: dict[str, Any] = _read(path)["examples"].get(example, {})
    return found


def update(path: Path, conditions: Conditions, key: str, entry: Mapping[str, Any]) -> None:
    """Adds an entry or replaces it; entries of the same example and other conditions are dropped."""
    with _lock:
        whole = _read(path)
        body = whole["examples"].get(conditions.subject.example, {})
        if body.get("conditions_sha256") != conditions.sha256:
            body = {"conditions_sha256": conditions.sha256, "conditions": conditions.to_dict(), "measured": {}}
        body["measured"][key] = dict(entry)
        whole["examples"][conditions.subject.example] = body
        path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"format_version": FORMAT_VERSION, "examples": {}}
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body


def fresh(body: Mapping[str, Any], candidate: Candidate, conditions: Conditions) -> bool:
    """Is there an entry of this candidate as it is today?"""
    return body.get("conditions_sha256") == conditions.sha256 and is_current(body, candidate)


def is_current(body: Mapping[str, Any], candidate: Candidate) -> bool:
    """Was this candidate measured with the recipe or the options that it has today?"""
    entry = body.get("measured", {}).get(candidate.key)
    if entry is None or entry["options"] != json.loads(json.dumps(dict(candidate.options))):
        return False
    return candidate.maker != "quant" or entry["recipe_sha256"] == candidate.recipe.sha256
