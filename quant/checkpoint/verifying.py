"""The manifest that speaks of a checkpoint or of one of its components, and whether its files are as it lists them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.checkpoint.manifest import FILE_NAME, read_manifest, verify_digests, verify_sizes
from quant.checkpoint.reader import weight_files
from quant.errors import CheckpointError


@dataclass(frozen=True)
class FoundManifest:
    """A manifest, the folder it is in, and the name it has for the component it was asked for."""

    root: Path
    body: dict[str, Any]
    component: str

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The record of each of the component's layers."""
        found: list[dict[str, Any]] = self.body.get("layers", {}).get(self.component, [])
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the checkpoint: everything but files and layers."""
        return {key: value for key, value in self.body.items() if key not in ("files", "layers", "format_version")}


def find_manifest(folder: Path) -> FoundManifest | None:
    """The manifest of a checkpoint or of one of its components, whose parent may hold it; None where none speaks of it.

    Raises:
        CheckpointError: it is damaged or of an unknown version, or lists other weights than those that are there.
    """
    found = locate_manifest(folder)
    if found is not None:
        alone = found.component or (folder / "config.json").is_file()
        for component in [found.component] if alone else sorted(found.body.get("layers", {})):
            for wrong in listing_faults(found, component):
                raise CheckpointError(wrong)
    return found


def locate_manifest(folder: Path) -> FoundManifest | None:
    """As `find_manifest`, whatever weights it lists. Raises CheckpointError for a manifest that cannot be read."""
    # Not the place that a link leads to, which may have no manifest next to it.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100
    body = read_manifest(folder)
    if body is not None:
        return FoundManifest(folder, body, "")
    body = read_manifest(folder.parent)
    known = body is not None and (
        folder.name in body.get("layers", {}) or any(name.startswith(f"{folder.name}/") for name in body["files"])
    )
    return FoundManifest(folder.parent, body, folder.name) if body is not None and known else None


class Verification:
    """Hashes of a checkpoint's files, taken by threads of their own while it is loaded."""

    def __init__(self, manifest: FoundManifest | None, files: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Begins to compare files with a manifest; None has nothing to compare.

        Args:
            manifest: the manifest.
            files: entries of those of its files that are compared; all where None.

        Raises:
            CheckpointError: names the first file that is missing or truncated.
        """
        self._hashing: Future[None] | None = None
        if manifest is not None:
            listed = manifest.body["files"] if files is None else files
            verify_sizes(manifest.root, listed)
            thread = ThreadPoolExecutor(1)
            self._hashing = thread.submit(verify_digests, manifest.root, listed)
            thread.shutdown(wait=False)

    def finish(self) -> None:
        """Waits for the last hash. Raises CheckpointError, which names the first file that is damaged."""
        if self._hashing is not None:
            self._hashing.result()

    @contextmanager
    def around(self) -> Iterator[None]:
        """Finishes when the block ends: a file that is damaged is the reason of whatever error it ends with."""
        try:
            yield
        except Exception:
            self.finish()
            raise
        self.finish()


def verify_component(folder: Path) -> Verification:
    """Begins to check a component's files against the manifest, and of the rest of its checkpoint what is there.

    Other quantized components are left to their own loading: diffusers loads a pipeline's parts one by one.

    Raises:
        CheckpointError: as `Verification`, and `find_manifest`.
    """
    found = find_manifest(folder)
    if found is None:
        return Verification(None)
    mine, others = found.component, set(found.body.get("layers", {})) - {found.component}
    files = {}
    for name, entry in found.body["files"].items():
        part = name.partition("/")[0]
        if part not in others and (mine in ("", part) or (found.root / name).is_file()):
            files[name] = entry
    return Verification(found, files)


def listing_faults(found: FoundManifest, component: str) -> Iterator[str]:
    """Weights that the manifest does not know, which a loader may take for those that were checked; and none listed."""
    folder = found.root / component
    place = f"{component}/" if component else ""
    listed = {name.removeprefix(place) for name in found.body["files"] if name.startswith(place)}
    manifest = found.root / FILE_NAME
    for path in weight_files(folder):
        if path.name not in listed:
            yield f"{path}: is not in {manifest}, so it is of another checkpoint; remove it"
    if not any(name.endswith(".safetensors") and "/" not in name for name in listed):
        yield f"{manifest}: lists no weights of {folder}, so nothing vouches for them"
    if "config.json" not in listed:
        yield f"{manifest}: lists no {folder / 'config.json'}, so nothing vouches for it"
