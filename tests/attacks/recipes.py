"""Hostile recipes and prompt files."""

from __future__ import annotations

from tests.attacks.attack import ODD_PLACES, YAML_CODE, YAML_OBJECT, Attack, instead, placed

_GROUPS = "groups: [{targets: [Linear], scheme: W8A8}]\n"


def _recipe(what: str, text: str | bytes, *, harmless: bool = False) -> Attack:
    return Attack(what, "recipe", "recipe.yaml", instead(text), harmless)


def _bomb(levels: int) -> str:
    text = "&a0 [x,x,x,x,x,x,x,x,x]"
    for i in range(1, levels):
        text = f"&a{i} [{text}," + ",".join([f"*a{i - 1}"] * 8) + "]"
    return text


def _group(body: str) -> str:
    return f"version: 1\ngroups: [{{{body}}}]\n"


def _targets(pattern: str) -> str:
    return _group(f"targets: ['{pattern}', Linear], scheme: W8A8")


def _summary(text: str) -> str:
    return f"version: 1\nsummary: {text}\n{_GROUPS}"


def _calibration(text: str) -> str:
    return f"version: 1\n{_GROUPS}calibration: {{{text}}}\n"


def _weights(text: str) -> str:
    return _group(f"targets: [Linear], scheme: {{weights: {{type: int, strategy: group, {text}}}}}")


RECIPES = (
    *(Attack(what, "recipe", "recipe.yaml", placed(place)) for what, place in ODD_PLACES.items()),
    _recipe("code: a YAML tag that calls os.system", _summary(YAML_CODE)),
    _recipe("code: a YAML tag that makes an object", _summary(YAML_OBJECT)),
    _recipe("code: a YAML tag that names a function", _summary("!!python/name:os.system")),
    _recipe("memory: aliases that expand to 9^8 words as the summary", _summary(_bomb(8))),
    _recipe("memory: aliases that expand to 9^30 words as an unknown key", f"version: 1\nx: {_bomb(30)}\n{_GROUPS}"),
    _recipe("memory: an alias of itself", _summary("&a [*a]")),
    _recipe("stack: lists 100,000 deep", "version: 1\nsummary: " + "[" * 100_000),
    _recipe("stack: mappings 3,000 deep", "version: 1\nsummary: " + "{a: " * 3000),
    _recipe("stack: block lists 3,000 deep", _summary("\n" + "".join(" " * i + "-\n" for i in range(1, 3000)))),
    _recipe("time: 20 MB of spaces", "version: 1\n" + " " * 20_000_000),
    _recipe("time: a pattern that goes back 2^n times", _targets("re:([a-z0-9_.]+)+!"), harmless=True),
    _recipe("time: nested stars", _targets("re:(.*)*!"), harmless=True),
    _recipe("time: alternatives within a star", _targets("re:(([a-z]|[0-9]|[._])+)+!"), harmless=True),
    _recipe("memory: counts within counts", _targets("re:((a{999}){999}){999}")),
    _recipe("stack: 5,000 parentheses", _targets("re:" + "(" * 5000 + "a" + ")" * 5000)),
    _recipe("memory: a pattern of a million letters", _targets("re:" + "a" * 1_000_000)),
    _recipe("types: true for version 1", "version: true\n" + _GROUPS),
    _recipe(
        "types: 4.0 bits, of which no loader knows",
        _weights("num_bits: 4.0, group_size: 64"),
    ),
    _recipe(
        "types: a group size of true",
        _weights("num_bits: 4, group_size: true"),
    ),
    _recipe("types: a budget of 500%", f"version: 1\n{_GROUPS}keep_budget: {{share: 5}}\n"),
    _recipe("types: a budget that is no number", f"version: 1\n{_GROUPS}keep_budget: {{share: .nan}}\n"),
    _recipe("types: a seed that torch cannot hold", _calibration("seed: 18446744073709551616")),
    _recipe("types: a number of 5,000 digits", _calibration(f"samples: {'9' * 5000}")),
    _recipe("types: a date that is none", _summary("2001-99-99"), harmless=True),
    _recipe("types: a tag that does not fit", _summary("!!int a")),
    _recipe("types: a mapping as a key", f"version: 1\n{{a: 1}}: 2\n{_GROUPS}"),
    _recipe("types: a list as a key", f"version: 1\n? [a]\n: 1\n{_GROUPS}"),
    _recipe("ambiguity: a key given twice", f"version: 1\n{_GROUPS}{_GROUPS}"),
    _recipe("ambiguity: a merge key that overrides", f"version: 1\n<<: {{groups: []}}\n{_GROUPS}", harmless=True),
    _recipe("ambiguity: two documents", f"version: 1\n{_GROUPS}---\nversion: 1\n{_GROUPS}"),
    _recipe("bytes: not UTF-8", b"version: 1\nsummary: \xff\xfe\n"),
    _recipe("bytes: NUL", "version: 1\nsummary: \x00\n"),
    _recipe("bytes: empty", ""),
    _recipe("words: escapes of a terminal as a scheme", _group('targets: [Linear], scheme: "\\e[31mred\\nline"')),
    _recipe("words: a scheme of a megabyte", _group(f"targets: [Linear], scheme: {'x' * 900_000}")),
)


def _prompts(what: str, suffix: str, data: str | bytes, *, harmless: bool = False) -> Attack:
    return Attack(what, f"prompts, {suffix}", f"p.{suffix}", instead(data), harmless)


_DEEP = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n"
PROMPTS = (
    _prompts("crash: JSON 100,000 deep ends Arrow's parser by SIGSEGV", "jsonl", _DEEP),
    _prompts("crash: the same as a JSON file", "json", _DEEP),
    _prompts("crash: the same after a thousand good lines", "jsonl", '{"prompt": "a"}\n' * 1000 + _DEEP, harmless=True),
    _prompts("types: numbers for text", "jsonl", '{"prompt": 3}\n'),
    _prompts("types: a list a line", "jsonl", '["a"]\n', harmless=True),
    _prompts("bytes: UTF-16", "txt", "a red fox".encode("utf-16")),
    _prompts("bytes: only NUL", "txt", b"\x00" * 100, harmless=True),
    _prompts("bytes: only empty lines", "txt", "\n \n\t\n"),
    _prompts("bytes: a quote that never ends", "csv", 'prompt\n"' + "x" * 200_000, harmless=True),
    _prompts("bytes: no column of prompts", "csv", "a,b\n1,2\n"),
    _prompts("bytes: a Parquet file's first four letters", "parquet", b"PAR1"),
    _prompts("bytes: a Parquet footer that claims 2 GB", "parquet", b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
)
