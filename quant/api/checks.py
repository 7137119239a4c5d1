"""What a verification finds: one `Check` for each thing that was looked at, and what was wrong in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from quant.text import message

#: Faults that one check lists; of the others it has the number.
MOST_FAULTS = 20


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        component: "transformer"; empty for a folder that is itself a component, and for files of no component.
        name: "files" (sizes and SHA-256), "headers", "config" (is config.json the one that the weights were written
            with?), "tensors" (of quantized layers, against the config), "class" (all others, against the model's
            class) or "values".
        text: what was found where nothing is wrong, or why nothing was compared.
        faults: what is wrong, one line each, at most `MOST_FAULTS`.
        more: how many more there are.
        skipped: there was nothing to compare with.
    """

    component: str
    name: str
    text: str
    faults: tuple[str, ...] = ()
    more: int = 0
    skipped: bool = False

    @classmethod
    def of(cls, component: str, name: str, text: str, faults: Iterable[str], *, skipped: bool = False) -> Check:
        """A check of these faults, the first of which are kept."""
        kept: list[str] = []
        more = 0
        for fault in faults:
            if len(kept) < MOST_FAULTS:
                kept.append(message(fault))
            else:
                more += 1
        return cls(component, name, message(text), tuple(kept), more, skipped)

    @property
    def status(self) -> str:
        """ "FAIL", "note" where nothing was compared, else "ok"."""
        return "FAIL" if self.faults else "note" if self.skipped else "ok"

    @property
    def count(self) -> int:
        """All faults, listed or not."""
        return len(self.faults) + self.more

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "component": self.component,
            "check": self.name,
            "status": self.status,
            "text": self.text,
            "faults": list(self.faults),
            "more": self.more,
        }
