"""Checks results against their schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.files.json_files import read_object, text_of
from quant.text import cut, shown

FORMAT_VERSION = 3
#: Those of version 2 have no "failed".
READABLE = (2, 3)
KIND = "quant evaluation"


def validate(results: Mapping[str, Any], source: str) -> None:
    """Raises QuantError, which names the place, where `results` are not as schema.json says."""
    try:
        import jsonschema
    except ImportError:
        raise QuantError("checking results needs jsonschema: pip install 'quant-video[eval]'") from None
    schema = read_object(Path(__file__).parent / "schema.json", QuantError)
    try:
        error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(results))
    except RecursionError:
        raise QuantError(f"{source}: nested too deeply") from None
    if error is not None:
        raise QuantError(f"{source}: {cut(error.json_path, 200)}: {cut(error.message, 400)}")


def read_results(path: Path) -> dict[str, Any]:
    """The results of a run: a results.json, or the folder that holds one.

    Raises:
        QuantError: there is none, it is of another version, or not as the schema says.
    """
    file = path / "results.json" if path.is_dir() else path
    begun = (path / "config.json").is_file()
    made = f"finish it with `quant eval resume {path}`" if begun else "a run folder is what `quant eval run` makes"
    results = read_object(file, QuantError, missing=f"no such results: {made}")
    if results.get("kind") != KIND:
        raise QuantError(f"{file}: not the results of an evaluation")
    if (version := results.get("format_version")) not in READABLE or isinstance(version, bool):
        raise QuantError(
            f"{file}: format_version {shown(version)} cannot be read here, only {' and '.join(map(str, READABLE))}"
        )
    validate(results, str(file))
    text_of(results, str(file), QuantError)  # refuses NaN and Infinity, which Python reads and JSON has not
    for model in results["models"]:
        model.setdefault("failed", None)  # version 2 had no words for it
    return results
