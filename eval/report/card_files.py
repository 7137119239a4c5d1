"""What a model card reads from folders, and how it is put into one."""

from __future__ import annotations

import hashlib
import json
import keyword
from pathlib import Path

from quant.errors import QuantError
from quant.eval.inputs.config import ORIGINAL
from quant.eval.storage.files import write_text
from quant.eval.storage.folder import RunFolder
from quant.fields import load_yaml
from quant.files.json_files import read_object
from quant.files.locks import locked
from quant.files.regular_files import read_text
from quant.text import shown

CARD = "README.md"
_MANIFEST = "quant_manifest.json"


def sources(run: Path) -> dict[str, str]:
    """The places of a run's models by name: its results only hold the last parts of their paths.

    Raises:
        QuantError: the folder has no config.json.
    """
    file = RunFolder(run).config
    none = f"{file}: does not say where the models of the run lie"
    try:
        config = read_object(file, QuantError).get("config")
    except QuantError as error:
        raise QuantError(f"{none}: {error}") from None
    model, candidates = (config.get(name) for name in ("model", "candidates")) if isinstance(config, dict) else ("", "")
    if not isinstance(model, str) or not isinstance(candidates, dict):
        raise QuantError(none)
    found = {ORIGINAL: model, **candidates}
    if not all(isinstance(place, str) and "\0" not in place for place in found.values()):
        raise QuantError(none)
    return found


def loading_code(checkpoint: Path, base: str) -> str:
    """Python that loads the checkpoint, with the class names that the folders say.

    Args:
        checkpoint: a whole pipeline, a folder of components, or one component.
        base: the pipeline that a checkpoint of components belongs to, a folder or a hub id.
    """
    name = _text(checkpoint.resolve().name)
    head = "import torch\nimport quant.diffusers  # teaches diffusers these checkpoints\n"
    if (checkpoint / "model_index.json").is_file():
        load = f"pipe = DiffusionPipeline.from_pretrained({name}, torch_dtype=torch.bfloat16)\n"
        return f"{head}from diffusers import DiffusionPipeline\n\n{load}"
    pipeline = _class_of(Path(base) / "model_index.json") or "DiffusionPipeline"
    single = (checkpoint / "config.json").is_file()
    parts = [("transformer", checkpoint)] if single else [(p.parent.name, p.parent) for p in _configs(checkpoint)]
    classes = {part: _class_of(folder / "config.json") or "AutoModel" for part, folder in parts}
    lines = [f"from diffusers import {', '.join([pipeline, *dict.fromkeys(classes.values())])}", ""]
    for part, kind in classes.items():
        place = name if single else _text(f"{checkpoint.resolve().name}/{part}")
        lines.append(f"{part} = {kind}.from_pretrained({place}, torch_dtype=torch.bfloat16)")
    given = ", ".join(f"{part}={part}" for part in classes)
    # With its last two parts a folder would look like the id of someone else's model on a hub.
    original = _text(f"./{Path(base).name}" if Path(base).is_absolute() else base)
    lines.append(f"pipe = {pipeline}.from_pretrained({original}, {given}, torch_dtype=torch.bfloat16)")
    return head + "\n".join(lines) + "\n"


def base_license(base: str) -> str | list[str] | None:
    """The license, or licenses, that the original's own card names; None where no card is there, or it names none.

    Raises:
        QuantError: there is a card, and its head cannot be read: a model is not passed on without its license.
    """
    path = Path(base) / CARD
    if not path.is_file():
        return None
    text = _read(path).removeprefix("\ufeff")  # editors on Windows start a file with it
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    body = load_yaml(text[4:].split("\n---", 1)[0], str(path), QuantError)
    found = body.get("license") if isinstance(body, dict) else None
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return list(found)
    raise QuantError(f"{path}: 'license' must be a text or a list of texts, got {shown(found)}")


def write_card(checkpoint: Path, text: str, *, mark: str, force: bool = False) -> Path:
    """Writes README.md in one step; where the manifest lists the file, its entry there follows.

    Raises:
        QuantError: there is a README.md without `mark`, so by someone else, and `force` is False; another process
            writes the checkpoint; the disk refuses.
    """
    place = checkpoint.resolve()
    with locked(place.with_name(f".{place.name}.lock"), str(checkpoint)):
        return _write_card(checkpoint, text, mark, force)


def _write_card(checkpoint: Path, text: str, mark: str, force: bool) -> Path:
    path = checkpoint / CARD
    manifest = checkpoint / _MANIFEST
    body = read_object(manifest, QuantError) if manifest.is_file() else {}
    if path.is_file() and not force and mark not in _read(path):
        raise QuantError(f"{path}: exists and was not written by this command; give --force to replace it")
    files = body.get("files")
    listed = isinstance(files, dict) and files.pop(CARD, None) is not None
    if listed:  # out of the list first: killed anywhere, the checkpoint still is what its manifest says
        write_text(manifest, json.dumps(body, indent=2, allow_nan=False) + "\n")
    write_text(path, text)
    if listed:
        data = text.encode()
        body["files"][CARD] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_text(manifest, json.dumps(body, indent=2, allow_nan=False) + "\n")
    return path


def _configs(checkpoint: Path) -> list[Path]:
    """Those of components whose names can be arguments, as the names of a pipeline's components are."""
    return sorted(path for path in checkpoint.glob("*/config.json") if _is_name(path.parent.name))


def _class_of(path: Path) -> str | None:
    """The class that a configuration names; None where it names none, or what is no name of a class."""
    if not path.is_file():
        return None
    found = read_object(path, QuantError).get("_class_name")
    return found if isinstance(found, str) and _is_name(found) else None


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def _text(value: str) -> str:
    """A text in quotes as Python reads it, on one line."""
    # Not JSON's escapes: those of a letter beyond 16 bits are two letters in Python.
    return json.dumps(value, ensure_ascii=False).encode("ascii", "backslashreplace").decode("ascii")


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise QuantError(f"{path}: is not UTF-8 text") from None
