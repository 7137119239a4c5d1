"""How much of a demo is done: only ever more, and everything in the end."""

from __future__ import annotations

from quant.eval.demo_work import REPORT, Work, calibrating


def test_every_part_moves_what_is_done_forward() -> None:
    told: list[tuple[str, int, int]] = []

    def note(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    work = Work(["a", "b"], samples=2, clips=3, steps=4, rounds=1, progress=note)
    for recipe in ("a", "b"):
        work.begin(calibrating(recipe))
    work.evaluated("original, MiB read", 1, 2)  # says nothing: it takes no time here
    for model in ("original", "a", "b"):
        for step in range(1, 13):
            work.evaluated(model, step, 12)
    for model in ("original", "a", "b"):
        for clip in range(1, 4):
            work.evaluated(f"{model}, scores", clip, 3)
    for what in ("loading", "first call of", "timing", "profiling", "memory of"):
        for number, model in enumerate(("original", "a", "b"), start=1):
            work.evaluated(f"{what} {model}", number, 3)
    work.begin(REPORT)
    done = [each for _, each, _ in told]
    assert done == sorted(done) and done[0] == 0
    assert len({total for _, _, total in told}) == 1
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "1 of 8: calibrating a",
        "2 of 8: calibrating b",
        "3 of 8: making videos with original",
        "4 of 8: making videos with a",
        "5 of 8: making videos with b",
        "6 of 8: scoring",
        "7 of 8: timing every model",
        "8 of 8: making the report",
    ]
    # Every part was done whole when the next one began: the sizes of all but the report add up to what was said.
    assert told[-1][1] == told[-2][1] == 2 * 2 * 2 * 4 + 3 * 4 * (1 + 3 + 3) + 9 + 4 * 4 * (1 + 3 + 3)
