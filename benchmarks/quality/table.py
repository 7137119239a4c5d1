"""The tables of docs/quality.md, from `benchmarks/results/quality.json`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.psnr import PsnrSummary, summarize
from benchmarks.quality.candidates import CANDIDATES, LEVELS, Candidate
from benchmarks.quality.results import is_current, read
from benchmarks.quality.subjects import SUBJECTS, Subject
from benchmarks.quality.verdicts import clips, verdicts
from quant.eval.metrics.exact import share_estimate
from quant.eval.metrics.paired import WORDS

#: What videos are judged by, as far as it was: only edits have a source whose motion they keep.
_ATTRIBUTES = ("shape", "colour", "direction", "motion")
_NOTHING = "Nothing has been measured yet: run `make quality`."
#: How much less often than the original's a clip may show the shape it should.
SHAPE_LOST = 0.05


def psnr_of(entry: Mapping[str, Any]) -> PsnrSummary:
    """Mean and worst of an entry; an identical clip is stored as null."""
    return summarize([math.inf if value is None else value for value in entry["psnr"]])


def quality(subject: Subject = SUBJECTS[0]) -> str:
    """A table a level, ours in bold, and the conditions."""
    body = read(subject.example)
    if not body:
        return _NOTHING
    measured = body["measured"]
    attributes = [name for name in _ATTRIBUTES if name in measured["original"]["judged"]]
    headings = ("", "PSNR mean", "worst", *attributes, "of bf16", "made in", "peak")
    parts = []
    for level in LEVELS:
        of_level = [each for each in subject.candidates if each.level == level and each.key in measured]
        if of_level:
            rows = [_row(each, measured[each.key], attributes) for each in _by_quality(of_level, measured)]
            parts.append(f"### {level}\n\n{_markdown(headings, rows)}")
    missing = [each.key for each in subject.candidates if not is_current(body, each)]
    return "\n\n".join([*parts, _conditions(body), *([_missing(missing)] if missing else [])])


def rivals(subject: Subject) -> str:
    """Of each level that a rival has, our best recipe beside the best of ModelOpt and the best of SDNQ, by PSNR."""
    body = read(subject.example)
    measured = body.get("measured", {})
    decided = {(each.ours.key, each.rival.key): each.words for each in verdicts(subject.candidates, body)}
    rows = []
    for level in LEVELS:
        there = [each for each in subject.candidates if each.key in measured and not each.is_step]
        of_level = [each for each in there if each.level == level]
        ours, *others = ([each for each in of_level if each.maker == maker] for maker in _MAKERS)
        if not ours or not any(others):
            continue
        best = [_by_quality(each, measured)[0] if each else None for each in (ours, *others)]
        first, nearest = best[0], _by_quality([each for each in best[1:] if each is not None], measured)[0]
        assert first is not None
        cells = ("-" if each is None else f"{_mean(measured[each.key])} ({each.name})" for each in best)
        rows.append((level, *cells, decided[first.key, nearest.key]))
    headings = ("", *_MAKERS.values(), "ours to the better one, dB")
    return _markdown(headings, rows) if rows else _NOTHING


def against(subject: Subject) -> str:
    """A table a level that a rival has: rivals are rows, our recipes columns, and a cell is what clips decide."""
    body = read(subject.example)
    found = verdicts(subject.candidates, body)
    if not found:
        return _NOTHING
    parts = []
    for level in LEVELS:
        of_level = {(each.ours.key, each.rival.key): each.words for each in found if each.ours.level == level}
        if not of_level:
            continue
        there = [each for each in subject.candidates if each.level == level]
        ours = [each for each in there if any(each.key == key for key, _ in of_level)]
        rivals = [each for each in there if any(each.key == key for _, key in of_level)]
        rows = [
            (f"{rival.maker} {rival.name}", *(of_level[each.key, rival.key] for each in ours))
            for rival in _by_quality(rivals, body["measured"])
        ]
        headings = (f"{level}, against", *(f"`{each.name}`" for each in ours))
        parts.append(_markdown(headings, rows))
    explained = (
        f"The recipe's PSNR less the rival's in dB, clip by clip: the mean, its 95% interval (Student's), and the "
        f"verdict. {clips(body)}, {len(found)} comparisons. {WORDS[0].upper()}{WORDS[1:]}."
    )
    return "\n\n".join([*parts, explained])


#: By maker, how a heading names its column; ours first.
_MAKERS = {"quant": "ours", "ModelOpt": "ModelOpt", "SDNQ": "SDNQ"}


def goals() -> str:
    """Each goal, what was reached, and what the best rival of its level reached, on the first example."""
    measured = read(SUBJECTS[0].example).get("measured", {})
    rows = []
    for each in CANDIDATES:
        goal = goal_of(each, measured)
        if goal is None or each.key not in measured:
            continue
        entry = measured[each.key]
        found = psnr_of(entry).mean
        verdict = "met" if found >= goal else f"missed by {goal - found:.1f} dB"
        lost = _share(measured["original"], "shape") - _share(entry, "shape")
        shape = f"{_share(entry, 'shape'):.0%}, {'met' if lost <= SHAPE_LOST else 'missed'}"
        rows.append(
            (f"`{each.name}`", f"{found:.1f}", f"{goal:.1f}", verdict, shape, _best_rival(each.level, measured))
        )
    headings = ("recipe", "PSNR mean", "goal", "", "shape within 5 points", "best rival of its kind")
    return _markdown(headings, rows) if rows else "None measured."


def goal_of(candidate: Candidate, measured: Mapping[str, Any]) -> float | None:
    """The goal in dB; None where there is none, or where what it is compared with was not measured."""
    if candidate.beside is None:
        return candidate.goal
    other, more = candidate.beside
    return psnr_of(measured[other]).mean + more if other in measured else None


def _share(entry: Mapping[str, Any], attribute: str) -> float:
    verdicts: list[bool] = entry["judged"][attribute]
    return sum(verdicts) / len(verdicts)


def _mean(entry: Mapping[str, Any]) -> str:
    return f"{psnr_of(entry).mean:.1f}"


def _share_with_interval(entry: Mapping[str, Any], attribute: str) -> str:
    answers: list[bool] = entry["judged"][attribute]
    found = share_estimate(sum(answers), len(answers))
    return f"{attribute} {found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"


def _best_rival(level: str, measured: Mapping[str, Any]) -> str:
    rivals = [c for c in CANDIDATES if c.level == level and c.maker != "quant" and c.key in measured]
    if not rivals:
        return "-"
    best = max(rivals, key=lambda candidate: psnr_of(measured[candidate.key]).mean)
    return f"{psnr_of(measured[best.key]).mean:.1f} ({best.maker} {best.name})"


def _by_quality(candidates: Sequence[Candidate], measured: Mapping[str, Any]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -psnr_of(measured[candidate.key]).mean)


def _row(candidate: Candidate, entry: Mapping[str, Any], attributes: Sequence[str]) -> tuple[str, ...]:
    psnr = psnr_of(entry)
    ours = candidate.maker == "quant"
    name = f"**`{candidate.name}`**" if candidate.is_recipe else f"{candidate.maker} {candidate.name}"
    left = f", {entry['layers_left']} layers left" if "layers_left" in entry else ""
    size = f"{entry['stored_bytes'] / entry['bf16_bytes']:.0%}" if ours else ""
    return (
        name + left,
        f"{psnr.mean:.1f}",
        f"{psnr.minimum:.1f}",
        *(f"{_share(entry, attribute):.0%}" for attribute in attributes),
        size,
        "-" if entry["making_seconds"] is None else f"{entry['making_seconds']:.0f} s",
        f"{entry['making_peak_bytes'] / 1e6:.0f} MB",
    )


def _conditions(body: Mapping[str, Any]) -> str:
    how = body["conditions"]
    found = body["measured"]["original"]
    judged = ", ".join(_share_with_interval(found, name) for name in _ATTRIBUTES if name in found["judged"])
    versions: dict[str, str] = {}
    for entry in body["measured"].values():
        versions.update(entry.get("versions", {}))
    return (
        f"PSNR in dB on raw frames of {clips(body)}, made by `{how['model']}`, against the original from the "
        f"same seeds and initial latents; {len(how['calibration_prompts'])} other "
        f"{'inputs' if 'inputs' in how else 'prompts'} to calibrate on, "
        f"{how['settings']['num_inference_steps']} steps each. The original's own: {judged}; in brackets the exact "
        f"binomial interval, of clips taken as independent. Made on one CPU thread, "
        f"beside other work, so the seconds are rough, and - is a run that was paused or starved; "
        f"the peak is that of the whole process, torch and the pipeline included. "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}."
    )


def _missing(keys: Sequence[str]) -> str:
    return f"Not measured, or not as they are today: {', '.join(keys)}."


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *rows))


#: The sections of docs/quality.md, by name.
FIGURES: dict[str, Callable[[], str]] = {
    "goals": goals,
    **{f"quality_{each.figure}": partial(quality, each) for each in SUBJECTS},
    **{f"rivals_{each.figure}": partial(rivals, each) for each in SUBJECTS},
    **{f"verdicts_{each.figure}": partial(against, each) for each in SUBJECTS},
}
