"""Seeded changes of a file's bytes, pure: of raw bytes, of JSON, of YAML and of safetensors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

#: What a value of a JSON or YAML file is replaced by: other types, limits, and what attacks readers.
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    4.0,
    1.5,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**30,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "\x00",
    "a\nb\x1b[31m\u202e",
    "\ud800",
    "../../x",
    "/dev/zero",
    "re:([a-z0-9_.]+)+!",
    "re:(",
    "Linear",
    "float8",
    "x" * 100_000,
    [],
    {},
    [None],
    [[]],
    {"": ""},
    [0] * 10_000,
    ["Linear"],
)

Mutation = tuple[str, bytes]


def mutate_bytes(data: bytes, rng: random.Random) -> Mutation:
    """A change that knows nothing of the format; returns what was done, and the new bytes."""
    if not data:
        return "filled", rng.randbytes(rng.randint(1, 64))
    kind = rng.choice(("flip", "flip", "byte", "cut", "insert", "repeat", "zeros", "empty", "tail", "swap"))
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.choice((1, 2, 8, 64)))
    if kind == "flip":
        changed = data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]
    elif kind == "byte":
        changed = data[:at] + rng.randbytes(1) + data[at + 1 :]
    elif kind == "cut":
        changed = data[:at]
    elif kind == "insert":
        changed = data[:at] + rng.randbytes(rng.choice((1, 8, 100))) + data[at:]
    elif kind == "repeat":
        changed = data[:end] + data[at:end] * rng.choice((1, 2, 100)) + data[end:]
    elif kind == "zeros":
        changed = data[:at] + bytes(end - at) + data[end:]
    elif kind == "empty":
        changed = b""
    elif kind == "tail":
        changed = data + rng.randbytes(rng.choice((1, 7, 100)))
    else:
        other = rng.randrange(len(data))
        swapped = bytearray(data)
        swapped[at], swapped[other] = swapped[other], swapped[at]
        changed = bytes(swapped)
    return f"{kind} at {at}", changed


def mutate_json(data: bytes, rng: random.Random) -> Mutation:
    """A change of one value, key or entry of a JSON text, or of its bytes where it is none."""
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    try:
        body = json.loads(data)
    except ValueError:
        return mutate_bytes(data, rng)
    what, changed = mutate_tree(body, rng)
    text = json.dumps(changed)
    if rng.random() < 0.03:  # nested deeper than a parser's stack
        what, text = f"{what}, nested", "[" * 100_000 + text
    elif rng.random() < 0.03 and text.startswith("{"):
        what, text = f"{what}, first key twice", '{"version": 1, ' * 2 + text[1:].rstrip("}") + "}"
    return what, text.encode("utf-8", "surrogatepass")


def mutate_tree(body: Any, rng: random.Random) -> tuple[str, Any]:
    """Changes one place of nested lists and dicts; returns what was done, and the changed copy."""
    body = json.loads(json.dumps(body))
    places = list(_places(body))
    if not places:
        return "replaced all", rng.choice(ODD)
    holder, key, path = rng.choice(places)
    kind = rng.choice(("replace", "replace", "replace", "delete", "rename", "swap", "wrap", "nudge", "add"))
    if kind == "delete":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[rng.choice(("", "x", f"{key}s", str(key).upper(), "__class__"))] = holder.pop(key)
    elif kind == "swap":
        other, there, _ = rng.choice(places)
        holder[key], other[there] = other[there], holder[key]
        if _is_circular(body):
            holder[key] = None
    elif kind == "wrap":
        holder[key] = [holder[key]]
    elif kind == "nudge" and isinstance(holder[key], int | float):
        holder[key] = holder[key] + rng.choice((-1, 1, 0.5))
    elif kind == "add" and isinstance(holder, dict):
        holder[rng.choice(("x", "sparsity_config", "low_rank", "smoothed", "fused"))] = rng.choice(ODD)
    else:
        kind = "replace"
        holder[key] = rng.choice(ODD)
    return f"{kind} {path}", body


def _places(body: Any, path: str = "") -> Any:
    """(holder, key, path) of every value within."""
    keys = body if isinstance(body, dict) else range(len(body)) if isinstance(body, list) else ()
    for key in list(keys):
        yield body, key, f"{path}/{key}"
        yield from _places(body[key], f"{path}/{key}")


def _is_circular(body: Any) -> bool:
    try:
        json.dumps(body)
    except (ValueError, RecursionError):
        return True
    return False


_YAML_TOKENS = (
    "&a ",
    "*a",
    "!!int ",
    "!!timestamp ",
    "!!python/object/apply:os.system ",
    "!!set ",
    "? ",
    "- ",
    "{",
    "[",
    "}: ",
    ": ",
    "|\n",
    ">\n",
    "%TAG ! x\n",
    "---\n",
    "\t",
    "'",
    '"',
    "#",
    "<<: ",
    "1:30",
    "2001-99-99",
    "0o7",
    "1_0",
    ".nan",
    ".inf",
    "~",
    "yes",
    "[" * 2000,
    "{a: " * 2000,
    "\ufeff",
    "\x85",
)


def mutate_yaml(data: bytes, rng: random.Random) -> Mutation:
    """A change of a YAML text's tokens, lines, bytes or of what it holds."""
    import yaml

    choice = rng.random()
    if choice < 0.2:
        return mutate_bytes(data, rng)
    if choice < 0.5:
        what, body = mutate_tree(yaml.safe_load(data), rng)
        return what, json.dumps(body).encode("utf-8", "surrogatepass")  # JSON is YAML
    text = data.decode()
    if choice < 0.6:
        lines = text.splitlines(keepends=True)
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines.insert(i, lines[j])
        return f"line {j} again at {i}", "".join(lines).encode()
    if choice < 0.65:
        levels = rng.choice((3, 8, 30))
        names = [f"a{i}" for i in range(levels)]
        bomb = ["&a0 [x, x, x, x, x, x, x, x, x]"]
        bomb += [f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(names)]
        key = rng.choice(("summary", "ignore", "groups", "x"))
        return f"aliases {levels} deep as {key}", f"{text}\n{key}: [{', '.join(bomb)}]\n".encode()
    at, token = rng.randrange(len(text) + 1), rng.choice(_YAML_TOKENS)
    return f"{token[:20]!r} at {at}", (text[:at] + token + text[at:]).encode()


def mutate_lines(data: bytes, rng: random.Random, inner: Callable[[bytes, random.Random], Mutation]) -> Mutation:
    """A change of one line of a file of lines by `inner`, or of their order and number."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    kind = rng.choice(("inner", "inner", "inner", "delete", "again", "swap", "torn"))
    if kind == "inner":
        what, lines[i] = inner(lines[i], rng)
        return f"line {i}: {what}", b"\n".join(lines)
    if kind == "delete":
        del lines[i]
    elif kind == "again":
        lines.insert(rng.randrange(len(lines)), lines[i])
    elif kind == "swap":
        j = rng.randrange(len(lines))
        lines[i], lines[j] = lines[j], lines[i]
    else:
        return "torn", data[: rng.randrange(len(data) + 1)]
    return f"{kind} line {i}", b"\n".join(lines)


def mutate_safetensors(data: bytes, rng: random.Random) -> Mutation:
    """A change of the header, of its length or of the payload."""
    length = int.from_bytes(data[:8], "little")
    header, payload = data[8 : 8 + length], data[8 + length :]
    kind = rng.choice(("header", "header", "payload", "payload", "length", "raw"))
    if kind == "header":
        what, changed = mutate_json(header, rng)
        return f"header: {what}", len(changed).to_bytes(8, "little") + changed + payload
    if kind == "payload" and payload:
        what, changed = mutate_bytes(payload, rng)
        return f"payload: {what}", data[: 8 + length] + changed
    if kind == "length":
        wrong = rng.choice((0, 1, length - 1, length + 1, length + 8, len(data), 2**32, 2**63, 2**64 - 1))
        return f"header length {wrong}", wrong.to_bytes(8, "little") + data[8:]
    return mutate_bytes(data, rng)


def mutation_for(name: str) -> Callable[[bytes, random.Random], Mutation]:
    """The mutation that knows a file's format, by its name."""
    suffix = name.rpartition(".")[2]
    if suffix == "jsonl":
        return lambda data, rng: mutate_lines(data, rng, mutate_json)
    known = {"json": mutate_json, "safetensors": mutate_safetensors, "yaml": mutate_yaml}
    return known.get(suffix, mutate_bytes)
