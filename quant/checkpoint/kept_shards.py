"""Files of a checkpoint that are finished while others are not: a killed run need not make them again.

They lie next to what becomes the checkpoint, with a note of what is known of each, and are moved there last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.manifest import sha256_of
from quant.errors import CheckpointError
from quant.fields import is_number
from quant.files.json_files import read_object

NOTE = "finished.json"


class KeptShards:
    """One run's folder of finished files. Another run's, known by their key, count as absent."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._files: dict[str, dict[str, Any]] = self._read()

    def place(self, component: str) -> Path:
        """The folder to write a component's files into."""
        folder = self._folder / component
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finished(self, component: str) -> dict[str, str]:
        """SHA-256 of the files of a component that are there as they were finished, by name; others are removed."""
        found = {}
        for path in sorted(self.place(component).glob("*.safetensors")):
            digest = self._files.get(self._name(component, path.name), {}).get("sha256")
            if digest is not None and sha256_of(path) == digest:
                found[path.name] = digest
            else:
                path.unlink()
        return found

    def errors(self, component: str) -> dict[str, float]:
        """Weight errors of the layers in a component's finished files, by layer."""
        found: dict[str, float] = {}
        for name, entry in self._files.items():
            if name.startswith(self._name(component, "")):
                found.update(entry["errors"])
        return found

    def keep(self, component: str, name: str, digest: str, errors: Mapping[str, float]) -> None:
        """Notes that a file is finished, with the weight errors that are known by then.

        Raises:
            OSError: the disk refuses.
        """
        self._files[self._name(component, name)] = {"sha256": digest, "errors": dict(errors)}
        part = self._folder / f"{NOTE}.tmp"
        with part.open("w", encoding="utf-8") as file:
            json.dump({"key": self._key, "files": self._files}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / NOTE)

    def move(self, component: str, to: Path) -> None:
        """Moves a component's files into the folder that becomes the checkpoint."""
        for path in self.place(component).iterdir():
            if path.suffix in (".safetensors", ".json") and path.name != NOTE and not path.name.endswith(".tmp"):
                path.rename(to / path.name)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            note = read_object(self._folder / NOTE)
        except CheckpointError:
            return {}
        files = note.get("files")
        if note.get("key") != self._key or not isinstance(files, dict):
            return {}
        return files if all(_is_entry(entry) for entry in files.values()) else {}

    @staticmethod
    def _name(component: str, name: str) -> str:
        return f"{component}/{name}"


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("errors"), dict)
        and all(is_number(error) for error in entry["errors"].values())
    )
