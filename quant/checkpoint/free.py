"""Which folders may become a checkpoint: an empty one, and with --force one that this program made, all of it."""

from __future__ import annotations

import os
from pathlib import Path

from quant.checkpoint.manifest import FILE_NAME, read_manifest
from quant.errors import CheckpointError
from quant.files.places import check_folder_place, is_as_listed, is_card, reason
from quant.text import shown


def check_free(out: Path, *, force: bool) -> None:
    """Refuses an output folder that is in the way. Changes nothing.

    Raises:
        CheckpointError: there is something other than an empty folder, and `force` is not set or this program did not
            make it; or no folder can be there.
    """
    place = check_folder_place(out, CheckpointError)
    try:
        if not place.is_dir() or not any(place.iterdir()):
            return
        foreign = _foreign(place)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be read: {reason(error)}") from None
    if foreign is not None:
        raise CheckpointError(f"{out}: already exists and {foreign}; choose another --out, or move it away yourself")
    if not force:
        raise CheckpointError(f"{out}: already exists; choose another --out, or replace it with --force")


def _foreign(place: Path) -> str | None:
    """Why a folder is not one that this program made, all of it; None where it is."""
    try:
        manifest = read_manifest(place)
    except CheckpointError as error:
        return f"its manifest cannot be read ({error})"
    if manifest is None:
        return f"was not made by this program (it has no {FILE_NAME})"
    for folder, folders, files in os.walk(place, onerror=_refuse):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder) / name
            inside = path.relative_to(place).as_posix()
            if inside == FILE_NAME or (inside == "README.md" and is_card(path)):
                continue
            if inside not in manifest["files"]:
                return f"holds {shown(inside)}, which is no part of the checkpoint there"
            if not is_as_listed(path, manifest["files"][inside]):
                return f"holds {shown(inside)}, which was changed after the checkpoint was made"
    return None


def _refuse(error: OSError) -> None:
    raise error
