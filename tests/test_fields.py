import re

import pytest

from quant.errors import CheckpointError, RecipeError
from quant.fields import MOST_CHARACTERS, MOST_NODES, load_yaml

#: Each list holds the one before it nine times: 9^8 values of 350 bytes.
_BOMB = "&a0 [x,x,x,x,x,x,x,x,x]"
for _level in range(1, 8):
    _BOMB = f"&a{_level} [{_BOMB}," + ",".join([f"*a{_level - 1}"] * 8) + "]"


def test_reads_plain_yaml() -> None:
    text = "\ufeffa: 1\nb: [x, 2.5, true, null]\nc: {d: 'on'}\nday: 2024-05-01\nbase: &m {k: 1}\nmore: {<<: *m, l: 2}\n"
    assert load_yaml(text, "here") == {
        "a": 1,
        "b": ["x", 2.5, True, None],
        "c": {"d": "on"},
        "day": "2024-05-01",
        "base": {"k": 1},
        "more": {"k": 1, "l": 2},
    }
    assert load_yaml("", "here") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: !!int a", "line 2: not valid YAML: 'a' is no int"),
        ("a: !!float a", "line 1: not valid YAML: 'a' is no float"),
        ("a: !!bool a", "line 1: not valid YAML: 'a' is no bool"),
        ("a: !!int ''", "line 1: not valid YAML: '' is no int"),
        ("a: !!timestamp 2001-01-01", "line 1: not valid YAML: could not determine a constructor for the tag"),
        ("a: !!set {b}", "line 1: not valid YAML: could not determine a constructor for the tag"),
        ("!!map [a]", "line 1: not valid YAML: a mapping was expected"),
        ("a: 1\non: 2", "line 2: not valid YAML: key on is no word to YAML; put it in quotes"),
        ("a: {1: 2}", "line 1: not valid YAML: key 1 is no word to YAML; put it in quotes"),
        ("a: 1:30", "line 1: not valid YAML: YAML reads 1:30 in base 60 or 8; write a plain number or quotes"),
        ("a: 1:30.5", "line 1: not valid YAML: YAML reads 1:30.5 in base 60 or 8"),
        ("a: 010", "line 1: not valid YAML: YAML reads 010 in base 60 or 8"),
        ("a: " + "9" * 5000, "line 1: not valid YAML: a number of 5,000 characters"),
        ('a: "\\U00110000"', "line 1: not valid YAML: chr() arg not in range(0x110000)"),
        ('a: "\\ud800"', "line 1: not valid YAML: text with half a character (a lone surrogate)"),
        ("a: 1\nb: " + "[" * 2000 + "]" * 2000, "line 2: not valid YAML: nested too deeply"),
        ("- " * 2000, "line 1: not valid YAML: nested too deeply"),
        ("{" * 2000, "line 1: not valid YAML: nested too deeply"),
        (f"a: 1\nb: {_BOMB}", f"line 2: not valid YAML: aliases expand to more than {MOST_NODES:,} values"),
        ("[" + "a," * (MOST_NODES + 1) + "]", f"line 1: not valid YAML: more than {MOST_NODES:,} values"),
        ("#" * (MOST_CHARACTERS + 1), f"not read: longer than {MOST_CHARACTERS:,} characters"),
    ],
    ids=lambda value: value[:20],
)
def test_refuses_everything_else_in_one_line_with_its_place(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=rf"^here: {re.escape(says)}") as found:
        load_yaml(text, "here")
    assert len(str(found.value)) < 400


def test_raises_the_class_that_the_caller_names() -> None:
    with pytest.raises(CheckpointError, match="here: line 1: not valid YAML"):
        load_yaml("a: b: c", "here", CheckpointError)
