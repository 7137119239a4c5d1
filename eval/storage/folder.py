"""The folder of one run: where everything lies in it, and the conditions that its name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.storage import journal

#: Kinds of records: frames that were made, files to look at, scores with their features, features of real clips, times.
GENERATED, VIEWABLE, SCORED, REFERENCED, TIMED = "generated", "viewable", "scored", "referenced", "timed"


@dataclass(frozen=True)
class RunFolder:
    """Paths below `path`; `rank` is of this process, which appends to its own journals only."""

    path: Path
    rank: int = 0

    @property
    def config(self) -> Path:
        """What a resumed run reads: configuration, samples, conditions, provenance."""
        return self.path / "config.json"

    @property
    def next_config(self) -> Path:
        """The same for a run that is being added to; it becomes `config` once its results are there."""
        return self.path / "config.next.json"

    @property
    def results(self) -> Path:
        """The results."""
        return self.path / "results.json"

    def frames(self, fingerprint: str, sample: str) -> Path:
        """The 16-bit frames that are scored."""
        return self.path / "frames" / fingerprint / f"{sample}.mkv"

    def video(self, candidate: str, sample: str) -> Path:
        """The 8-bit frames without loss."""
        return self.path / "videos" / candidate / f"{sample}.mp4"

    def preview(self, candidate: str, sample: str) -> Path:
        """What browsers play."""
        return self.path / "videos" / candidate / f"{sample}.preview.mp4"

    def steps(self, fingerprint: str, sample: str) -> Path:
        """Some entries of the latents after each denoising step."""
        return self.path / "steps" / fingerprint / f"{sample}.npy"

    def features(self, extractor: str, fingerprint: str, sample: str) -> Path:
        """The features of one video."""
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in extractor)
        return self.path / "features" / safe / fingerprint / f"{sample}.npy"

    def append(self, kind: str, record: Mapping[str, Any]) -> None:
        """Adds a record to this process's journal."""
        journal.append(self.path / "journal" / f"{kind}-{self.rank}.jsonl", record)

    def records(self, kind: str) -> dict[tuple[str, str], list[journal.Record]]:
        """All records of each (fingerprint, sample), of all journals.

        Which of several is the last one is not known across journals. Readers take one whose hashes are those of
        what is there now.

        Raises:
            QuantError: a journal is damaged, or of another program.
        """
        found: dict[tuple[str, str], list[journal.Record]] = {}
        for record in journal.read(self.path / "journal", kind):
            model, sample = record.get("model"), record.get("sample")
            if not isinstance(model, str) or not isinstance(sample, str):
                raise QuantError(f"{self.path}: its journal '{kind}' has a record of no model or sample")
            found.setdefault((model, sample), []).append(record)
        return found
