"""What a model card reads from folders, and how it is put into one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.runs.config import ORIGINAL
from quant.eval.runs.files import write_text
from quant.eval.runs.folder import RunFolder
from quant.json_files import read_object

CARD = "README.md"
_MANIFEST = "quant_manifest.json"


def sources(run: Path) -> dict[str, str]:
    """By name, where the models of a run lie: its results only say the last parts of that.

    Raises:
        QuantError: the folder has no config.json.
    """
    file = RunFolder(run).config
    try:
        config = json.loads(file.read_text(encoding="utf-8"))["config"]
        return {ORIGINAL: config["model"], **config["candidates"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuantError(f"{file}: does not say where the models of the run lie: {error}") from None


def loading_code(checkpoint: Path, base: str) -> str:
    """Python that loads the checkpoint, with the class names that the folders say.

    Args:
        checkpoint: a whole pipeline, a folder of components, or one component.
        base: the pipeline that a checkpoint of components belongs to, a folder or a hub id.
    """
    name = checkpoint.resolve().name
    head = "import torch\nimport quant.diffusers  # teaches diffusers these checkpoints\n"
    if (checkpoint / "model_index.json").is_file():
        load = f'pipe = DiffusionPipeline.from_pretrained("{name}", torch_dtype=torch.bfloat16)\n'
        return f"{head}from diffusers import DiffusionPipeline\n\n{load}"
    pipeline = _class_of(Path(base) / "model_index.json") or "DiffusionPipeline"
    single = (checkpoint / "config.json").is_file()
    parts = [("transformer", checkpoint)] if single else [(p.parent.name, p.parent) for p in _configs(checkpoint)]
    classes = {part: _class_of(folder / "config.json") or "AutoModel" for part, folder in parts}
    lines = [f"from diffusers import {', '.join([pipeline, *dict.fromkeys(classes.values())])}", ""]
    for part, kind in classes.items():
        place = name if single else f"{name}/{part}"
        lines.append(f'{part} = {kind}.from_pretrained("{place}", torch_dtype=torch.bfloat16)')
    given = ", ".join(f"{part}={part}" for part in classes)
    # With its last two parts a folder would look like the id of someone else's model on a hub.
    original = f"./{Path(base).name}" if Path(base).is_absolute() else base
    lines.append(f'pipe = {pipeline}.from_pretrained("{original}", {given}, torch_dtype=torch.bfloat16)')
    return head + "\n".join(lines) + "\n"


def base_license(base: str) -> str | None:
    """The license that the original's own card names; None where there is no card beside the model."""
    import yaml

    path = Path(base) / CARD
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    try:
        body = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError:
        return None
    found = body.get("license") if isinstance(body, dict) else None
    return None if found is None else str(found)


def write_card(checkpoint: Path, text: str, *, mark: str, force: bool = False) -> Path:
    """Writes README.md in one step; where the manifest lists the file, its entry there follows.

    Raises:
        QuantError: there is a README.md without `mark`, so by someone else, and `force` is False.
    """
    path = checkpoint / CARD
    manifest = checkpoint / _MANIFEST
    body = read_object(manifest, QuantError) if manifest.is_file() else {}
    try:
        if path.is_file() and mark.encode() not in path.read_bytes() and not force:
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
    except OSError as error:
        raise QuantError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def _configs(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("*/config.json"))


def _class_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    body: Any = json.loads(path.read_text(encoding="utf-8"))
    found = body.get("_class_name")
    return None if found is None else str(found)
