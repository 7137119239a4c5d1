"""What a run that stops keeps for the next one, in words."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from quant.checkpoint.folder import OutputFolder
from quant.errors import QuantError, QuantWarning
from quant.pipelines.snapshot import Snapshot


def claim(folder: OutputFolder, run: Mapping[str, str]) -> None:
    """As `OutputFolder.claim`, with a warning where work of another run is dropped."""
    differs = folder.claim(run)
    if differs:
        warnings.warn(
            f"{folder.out}: an interrupted run differed in its {' and '.join(differs)}; what it had done is dropped",
            QuantWarning,
            stacklevel=3,
        )


@contextmanager
def keeping(folder: OutputFolder, snapshot: Snapshot) -> Iterator[None]:
    """Says with an error or an interrupt whether the next run goes on where this one stopped.

    It does where it finds the same original; the folder has to be claimed for this run.
    """
    goes_on = "what was done is kept: the same command goes on"
    try:
        yield
    except KeyboardInterrupt as stop:
        if folder.is_finished:
            done = f"{folder.out} is finished"
        elif not folder.keeps_work:
            done = "nothing was done yet"
        else:
            done = goes_on if snapshot.stands() else "the model changed meanwhile, so the same command starts anew"
        raise type(stop)(f"interrupted; {done}") from None
    except QuantError as error:
        if folder.is_finished or not folder.keeps_work or not snapshot.stands():
            raise
        raise type(error)(f"{error}; {goes_on}") from error
