"""Checks results against their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.runs.results import FORMAT_VERSION, KIND


def validate(results: Mapping[str, Any], source: str) -> None:
    """Raises QuantError, which names the place, where `results` are not as schema.json says."""
    try:
        import jsonschema
    except ImportError:
        raise QuantError("checking results needs jsonschema: pip install 'quant-video[eval]'") from None
    schema = json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(results))
    if error is not None:
        raise QuantError(f"{source}: {error.json_path}: {error.message}")


def read_results(path: Path) -> dict[str, Any]:
    """The results of a run: a results.json, or the folder that holds one.

    Raises:
        QuantError: there is none, it is of another version, or not as the schema says.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = (path / "config.json").is_file()
        made = (
            f": finish it with `quant eval resume {path}`" if begun else "; a run folder is what `quant eval run` makes"
        )
        raise QuantError(f"{file}: no such results{made}") from None
    except (OSError, ValueError) as error:
        raise QuantError(f"{file}: not readable as JSON: {error}") from None
    if not isinstance(results, dict) or results.get("kind") != KIND:
        raise QuantError(f"{file}: not the results of an evaluation")
    if results.get("format_version") != FORMAT_VERSION:
        raise QuantError(
            f"{file}: format_version {results.get('format_version')!r} cannot be read here, only {FORMAT_VERSION}"
        )
    validate(results, str(file))
    return results
