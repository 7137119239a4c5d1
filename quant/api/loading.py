"""What the quantizer classes for diffusers and transformers share: names of methods, and what `quant.load` loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


class Method(str):
    """`quant_method`, as both libraries want it: with a `.value`."""

    @property
    def value(self) -> str:
        return str(self)


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Within it, `from_pretrained` serves `quant.load`: errors name `folder`, and no blocks are fused yet."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def folder_loaded() -> Path | None:
    """The folder that `quant.load` loads just now; None outside of it."""
    return _folder.get()
