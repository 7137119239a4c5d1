"""The folder of a demo: what a demo made in it, whose demo it is, and that nothing else is ever replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.storage.files import write_json
from quant.files.json_files import read_object
from quant.files.places import is_as_listed, is_card
from quant.text import shown

PAGE, RESULTS, SHEET = "index.html", "results.json", "frames.png"
#: The inputs of its videos, and files among them that lie nowhere else.
INPUTS, MEDIA = "inputs.jsonl", "media"
CHECKPOINTS = "checkpoints"
#: What the folder of the evaluation is called; a hash follows.
RUN = "evaluation"
#: Says what a folder is the demo of, so that the same one goes on in it and another does not.
_REQUEST = "demo.json"
#: What is in every request; older ones name their inputs otherwise.
_KEYS = frozenset({"model", "recipes", "settings", "seed"})
#: What a demo makes but for its checkpoints, in which `*` stands for folders too; stopped work is hidden.
_MADE = (
    *(PAGE, RESULTS, SHEET, INPUTS, _REQUEST),
    f"{MEDIA}/*",
    f"{CHECKPOINTS}/.*.quant/*",
    f"{CHECKPOINTS}/.*.lock",
    *(
        f"{RUN}-*/{name}"
        for name in (
            *("config.json", "config.next.json", "results.json", "speed-*.json", "report.html", "report.ipynb"),
            *("frames/*.mkv", "videos/*.mp4", "steps/*.npy", "features/*.npy", "journal/*.jsonl", ".lock*", "*.part"),
            "inputs/*",
        )
    ),
)


def claim(out: Path, request: Mapping[str, Any], *, force: bool) -> None:
    """Makes `out`, or finds it begun by the same request. Raises QuantError where something else is in it."""
    try:
        if out.is_dir() and any(out.iterdir()) and _request(out) != request:
            foreign = _foreign(out)
            if _request(out) is None or foreign:
                what = f"{shown(foreign[0])}, which" if foreign else "what"
                raise QuantError(f"{out}: holds {what} no demo made, and is not replaced; choose another --out")
            if not force:
                raise QuantError(f"{out}: already exists and is not of this demo; choose another --out, or --force")
            for path in out.iterdir():
                if path.name != _REQUEST:  # the last to go: it says that the rest is a demo's
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / _REQUEST, dict(request))
    except OSError as error:
        raise QuantError(f"{out}: cannot be written: {error.strerror}") from None


def _foreign(out: Path) -> list[str]:
    """The files of a folder that no demo made, and the links in it. Raises OSError where it cannot be read."""
    found = []
    for folder, folders, files in os.walk(out):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in (*files, *links)):
            inside = path.relative_to(out)
            known = any(fnmatchcase(inside.as_posix(), pattern) for pattern in _MADE)
            if path.is_symlink() or not (known or _is_of_a_checkpoint(out, inside)):
                found.append(inside.as_posix())
    return sorted(found)


def _is_of_a_checkpoint(out: Path, inside: Path) -> bool:
    """Whether a file is as the manifest of its checkpoint says, or the manifest, or the card."""
    if inside.parts[0] != CHECKPOINTS or len(inside.parts) < 3:
        return False
    path, root = out / inside, out / Path(*inside.parts[:2])
    manifest = root / "quant_manifest.json"
    if path == manifest or (path.parent == root and is_card(path)):
        return True
    try:
        files = read_object(manifest, QuantError).get("files")
    except QuantError:
        return False
    return isinstance(files, dict) and is_as_listed(path, files.get(path.relative_to(root).as_posix()))


def _request(out: Path) -> dict[str, Any] | None:
    """What a demo's folder is of; None where it is no demo's."""
    try:
        found = read_object(out / _REQUEST, QuantError)
    except QuantError:
        return None
    return found if set(found) >= _KEYS else None
