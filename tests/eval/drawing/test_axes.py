from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from quant.eval.drawing.axes import BOTTOM, HEIGHT, LEFT, LETTER, RIGHT, TOP, WIDTH, horizontal, labels

X = horizontal(0, 1)
Box = tuple[float, float, float, float]


def boxes(html: str) -> list[Box]:
    """Left, top, right and bottom of each text."""
    found = []
    for side, at, base, text in re.findall(r'<text class="name ([a-z]*)" x="([\d.-]+)" y="([\d.-]+)">([^<]*)<', html):
        wide = LETTER * len(text)
        left = float(at) - {"": 0.0, "middle": wide / 2, "end": wide}[side]
        found.append((left, float(base) - 12, left + wide, float(base) + 4))
    return found


def covered(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_a_name_alone_stands_to_the_right_of_its_point() -> None:
    assert labels(["w8a8"], [(200.0, 150.0)], X) == '<text class="name " x="216.0" y="155.0">w8a8</text>'


def test_six_names_at_nearly_one_point_lie_on_no_other_and_the_far_ones_have_a_line() -> None:
    names = ["fp8-dynamic", "w8a8", "w4a16-gptq", "w4a8", "sparse24-fp8", "mixed"]
    html = labels(names, [(230.0 + 3 * i, 150.0 + 4 * i) for i in range(6)], X)
    found = boxes(html)
    assert not [(i, j) for i in range(6) for j in range(i) if covered(found[i], found[j])]
    far = [box for i, box in enumerate(found) if abs((box[1] + box[3]) / 2 - (150 + 4 * i)) > 30]
    assert html.count('<path class="leader"') == len(far) > 0


@given(st.lists(st.tuples(st.floats(LEFT, WIDTH - RIGHT), st.floats(TOP, HEIGHT - BOTTOM)), min_size=1, max_size=8))
def test_names_stay_within_the_plot(places: list[tuple[float, float]]) -> None:
    for left, top, right, bottom in boxes(labels(["a candidate"] * len(places), places, X)):
        assert left >= LEFT - 0.1 and right <= WIDTH - RIGHT + 20.1
        assert top >= -0.1 and bottom <= HEIGHT - BOTTOM + 0.1


def test_names_are_text() -> None:
    assert "&lt;b&gt; &amp;" in labels(["<b> &"], [(200.0, 150.0)], X)
