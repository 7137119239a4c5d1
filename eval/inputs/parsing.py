"""An evaluation's configuration as its YAML file or the command line's options give it, checked key by key."""

from __future__ import annotations

from pathlib import Path

import quant
from quant.errors import QuantError
from quant.eval.bench.gpus import gpus
from quant.eval.inputs.config import ORIGINAL, VERSION, EvaluationConfig, SpeedSettings
from quant.eval.inputs.fields import Fields
from quant.eval.inputs.samples import MAX_SEED
from quant.eval.locations import place
from quant.eval.networks.kinds import KINDS
from quant.fields import load_yaml
from quant.files import regular_files
from quant.text import first_line

DTYPES = ("float32", "bfloat16", "float16")


def read_config(path: Path) -> EvaluationConfig:
    """The evaluation a YAML file describes; relative paths in it start from its folder.

    Raises:
        QuantError: names the file and the key, and says what would be right.
    """
    body = load_yaml(read_text(path), str(path), QuantError)
    return from_dict(body, source=str(path), base=path.resolve().parent, name=path.stem)


def read_text(path: Path) -> str:
    """The text of a configuration. Raises QuantError where it cannot be read or is no UTF-8."""
    try:
        return regular_files.read_text(path)
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise QuantError(f"{path}: not readable as YAML: {first_line(error)}") from None


def from_dict(body: object, *, source: str, base: Path, name: str = "evaluation") -> EvaluationConfig:
    """The evaluation of a parsed file. `source` is for messages, relative paths start from `base`."""
    fields = Fields(body, source)
    if (version := fields.integer("version", VERSION)) != VERSION:
        raise fields.wrong("version", f"this program reads version {VERSION}", version)
    candidates = {key: place(value, base) for key, value in _candidates(fields).items()}
    sensitivity = {key: place(value, base) for key, value in fields.texts_by_name("sensitivity").items()}
    if stranger := next((key for key in sensitivity if key not in candidates), None):
        raise fields.wrong("sensitivity", f"must name candidates ({', '.join(candidates)})", stranger)
    references, inputs = fields.optional_text("references"), fields.optional_text("inputs")
    if inputs is not None and fields.raw("prompts") is not None:
        raise QuantError(f"{source}: 'inputs' and 'prompts' are given: a table of inputs has a column of prompts")
    config = EvaluationConfig(
        name=_name(fields, name),
        model=place(fields.text("model"), base),
        candidates=candidates,
        prompts=() if inputs is not None and fields.take_raw("prompts") is None else _prompts(fields, base),
        inputs=None if inputs is None else place(inputs, base),
        samples=fields.integer("samples", None, least=1),
        seeds=fields.integers("seeds", (0,), MAX_SEED),
        settings=_settings(fields),
        dtype=fields.choice("dtype", DTYPES),
        device=fields.optional_text("device"),
        references=None if references is None else place(references, base),
        reference_samples=fields.integer("reference_samples", None, least=2),
        metrics=_metrics(fields.section("metrics"), base),
        speed=_speed(fields),
        sensitivity=sensitivity,
        fps=fields.number("fps"),
    )
    fields.refuse_unknown()
    return config


def named(folders: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Candidates by name, the last part of each. Raises QuantError where two have the same."""
    found: dict[str, str] = {}
    for folder in folders:
        name = Path(folder).name or Path(folder).resolve().name
        if name in found:
            raise QuantError(f"candidates {found[name]} and {folder} are both named {name}: name them in a config file")
        found[name] = folder
    return found


def _candidates(fields: Fields) -> dict[str, str]:
    given = fields.raw("candidates")
    found = named(fields.texts("candidates")) if isinstance(given, list) else fields.texts_by_name("candidates")
    for name in found:
        if name == ORIGINAL or not _names_a_folder(name):
            raise fields.wrong("candidates", f"must be named like folders, and not '{ORIGINAL}'", name)
    return found


def _names_a_folder(name: str) -> bool:
    """Is it a name that every file system takes, with room for what is added to it?"""
    length = len(name.encode("utf-8", "backslashreplace"))
    return not name.startswith(".") and length <= 200 and not any(character in name for character in "/\\\0")


def _name(fields: Fields, default: str) -> str:
    name = fields.optional_text("name") or default
    if not _names_a_folder(name):
        raise fields.wrong("name", "must be a folder's name", name)
    return name


def _prompts(fields: Fields, base: Path) -> str | tuple[str, ...]:
    if isinstance(fields.raw("prompts"), list):
        return tuple(prompt.removeprefix("\ufeff").strip() for prompt in fields.texts("prompts"))
    return place(fields.text("prompts"), base)


def _settings(fields: Fields) -> quant.GenerationSettings:
    given = fields.section("settings").take_all()
    try:
        return quant.GenerationSettings(**given)
    except (QuantError, TypeError) as error:
        reason = str(error).removeprefix("GenerationSettings.__init__() ")
        raise QuantError(f"{fields.source}: 'settings': {reason}") from None


def _metrics(fields: Fields, base: Path) -> dict[str, tuple[str, ...]]:
    found = {}
    for kind in KINDS:
        if fields.take_raw(kind.key) is None:
            continue
        specs = fields.texts(kind.key, least=0) if kind.several else (fields.text(kind.key),)
        if stranger := next((spec for spec in specs if kind.choices and spec not in kind.choices), None):
            raise fields.wrong(kind.key, f"must be {' or '.join(kind.choices)}", stranger)
        found[kind.key] = tuple(kind.located(spec, base) for spec in specs)
    fields.refuse_unknown()
    return found


def _speed(fields: Fields) -> SpeedSettings | None:
    if fields.raw("speed") is False:
        fields.take_raw("speed")
        return None
    section = fields.section("speed")
    found = SpeedSettings(
        section.integer("rounds", None, least=1),
        section.boolean("compile"),
        section.choice("gpu", tuple(gpus())),
    )
    section.refuse_unknown()
    return found
