"""An output folder that several processes work on, which one of them makes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quant.calibration.preparing import Prepared
from quant.calibration.ranks import Ranks
from quant.checkpoint.folder import OutputFolder, holding, seen_by_others
from quant.errors import CalibrationError, CheckpointError
from quant.files.places import reason


def check_shared(start: Prepared, ranks: Ranks) -> None:
    """Raises CalibrationError where several processes would all do the same."""
    if ranks.count > 1 and (start.calls is None or start.rows is not None):
        raise CalibrationError(
            f"{start.recipe.name}: {ranks.count} processes share recorded calls alone; give --calls DIR without "
            "prompts and inputs (calls= in Python), or for a recipe that needs no data start one process"
        )


@contextmanager
def held_by_first(
    out: Path, ranks: Ranks, *, force: bool, claim: Callable[[OutputFolder], None]
) -> Iterator[OutputFolder]:
    """Holds an output folder for the first process, and gives the same one to the others.

    Args:
        out, force: as of `holding`.
        ranks: the processes, all of which have to ask.
        claim: what the first does with the folder before the others get it.

    Raises:
        CalibrationError: another process does not see what the first one puts there.
        CheckpointError: as `holding`.
    """
    if ranks.is_first:
        with holding(out, force=force) as folder:
            claim(folder)
            _meet(folder, out, ranks)
            yield folder
    else:
        folder = seen_by_others(out, force=force)
        _meet(folder, out, ranks)
        yield folder


def _meet(folder: OutputFolder, out: Path, ranks: Ranks) -> None:
    """Raises CalibrationError where not all processes see one folder."""
    if ranks.count == 1:
        return
    mark = folder.mark(secrets.token_hex(8))
    try:
        if ranks.is_first:
            mark.touch()
        mark = folder.mark(ranks.all_of(mark.name)[0])
        blind = [rank for rank, sees in enumerate(ranks.all_of(mark.exists())) if not sees]
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {reason(error)}") from None
    finally:
        if ranks.is_first:
            with suppress(OSError):
                mark.unlink(missing_ok=True)
    if blind:
        raise CalibrationError(f"{out}: rank {blind[0]} sees another folder there than rank 0; give one that all share")
