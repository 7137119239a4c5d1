"""Questions about paths that anyone may have written, which have an answer for every text."""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Is it a regular file? A pipe and a device, which may never end, are none; nor is a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False


def is_folder(path: Path) -> bool:
    """Is it a folder? A name that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
